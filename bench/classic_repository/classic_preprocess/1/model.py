import cv2
import numpy as np

from sapiens_core.images.codec import decode_bgr
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS
from sapiens_core.triton.respond import respond

NETWORK_WH = (768, 1024)


class TritonPythonModel:
    """image (B,) uint8 encoded -> tensor (1, 3, H', W') float32 normalised RGB, image_hw (2,) int32."""

    def execute(self, requests):
        return respond(requests, ("image",), _preprocess)


def _preprocess(encoded):
    image = decode_bgr(encoded)
    rgb = cv2.cvtColor(cv2.resize(image, NETWORK_WH), cv2.COLOR_BGR2RGB)
    normalization = NORMALIZATIONS["full"]
    tensor = (rgb.astype(np.float32) - np.float32(normalization.mean)) / np.float32(normalization.std)
    chw = np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])
    return {"tensor": chw, "image_hw": np.array(image.shape[:2], dtype=np.int32)}
