"""Stands in for the dense tasks: decodes for real, answers at once; some images mean trouble."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from sapiens_core.images.codec import decode_bgr
from sapiens_core.triton.respond import respond

HOLD = Path(__file__).with_name("hold")


class TritonPythonModel:
    """image (B,) uint8 -> what the model's name says, and image_hw (2,) int32."""

    def initialize(self, args):
        names = {"normal": ["normals"], "seg": ["class_map"], "features": ["features"], "human": OUTPUTS}
        self.names = names.get(args["model_name"], ["depth"])

    def execute(self, requests):
        return respond(requests, ("image",), self._answer)

    def _answer(self, encoded):
        image = decode_bgr(encoded)
        image_hw = image.shape[:2]
        while image_hw == (699, 701) and HOLD.exists():
            time.sleep(0.01)
        if image_hw == (1, 4):
            return {}
        if image_hw == (1, 5) and len(self.names) > 1:
            raise RuntimeError("one of the networks fell over")
        outputs = {name: OUTPUTS[name](image) for name in self.names}
        return outputs | {"image_hw": np.array(image_hw, np.int32)}


def _depth(image):
    """Return (H, W) float32 that tells the channels apart."""
    match image.shape[:2]:
        case (1, 2) | (700, 701):
            time.sleep(1.5)
        case (1, 3):
            raise RuntimeError("the network fell over\nwith details for the log")
        case (701, 700):
            image = np.pad(image, ((0, 1), (0, 0), (0, 0)))
    return image.astype(np.float32) @ np.array([1, 2, 4], np.float32)


OUTPUTS = {
    "depth": _depth,
    "normals": lambda image: image.astype(np.float32) - 127,
    "class_map": lambda image: image[:, :, 0] % 28,
    "features": lambda image: image[None, :4, :3, :1].astype(np.float32).transpose(0, 3, 1, 2),
}
