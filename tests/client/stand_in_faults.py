"""Stands in for `depth` and does what it is told: fails with a status, raises, or takes 1.2 s."""

from __future__ import annotations

import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """image (B,) uint8, a word -> depth (1, 1) float32, image_hw (2,) int32."""

    def execute(self, requests):
        return [_response(request) for request in requests]


def _response(request):
    word = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().tobytes().decode()
    if word == "RAISE":
        raise RuntimeError("some reason")
    if word == "SLOW":
        time.sleep(1.2)
    elif word != "WELL":
        return pb_utils.InferenceResponse(
            [], pb_utils.TritonError("some reason", getattr(pb_utils.TritonError, word))
        )
    depth, image_hw = np.ones((1, 1), np.float32), np.ones(2, np.int32)
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor("depth", depth), pb_utils.Tensor("image_hw", image_hw)]
    )
