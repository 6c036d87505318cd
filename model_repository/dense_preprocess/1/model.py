import numpy as np

from sapiens_core.image_codec import decode_bgr
from sapiens_core.preprocess import dense_pixels
from sapiens_core.triton_backend import output_dims, respond


class TritonPythonModel:
    """image (B,) uint8 encoded -> pixels (1, H', W', 3) uint8 RGB at network size, image_hw (2,) int32."""

    def initialize(self, args):
        _, height, width, _ = output_dims(args, "pixels")
        self.network_hw = (height, width)

    def execute(self, requests):
        return respond(requests, ("image",), self._preprocess)

    def _preprocess(self, encoded):
        image = decode_bgr(encoded)
        return {
            "pixels": dense_pixels(image, self.network_hw),
            "image_hw": np.array(image.shape[:2], dtype=np.int32),
        }
