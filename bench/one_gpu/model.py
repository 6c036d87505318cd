"""Stands in for a network on a GPU: so long per image, no processor, one batch at a time of all copies."""

import fcntl
import json
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Any pixels -> zeros, one image's worth for each request; the config says `ms_per_image`."""

    def initialize(self, args):
        """Take the config, and the lock of all copies."""
        config = json.loads(args["model_config"])
        (output,) = config["output"]
        self._name, self._zeros = output["name"], np.zeros((1, *map(int, output["dims"])), np.float32)
        self._image_s = float(config["parameters"]["ms_per_image"]["string_value"]) / 1e3
        self._lock = Path(args["model_repository"], "lock")

    def execute(self, requests):
        """Wait for the GPU, then for its work."""
        with self._lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            time.sleep(self._image_s * len(requests))
        tensor = pb_utils.Tensor(self._name, self._zeros)
        return [pb_utils.InferenceResponse([tensor]) for _ in requests]
