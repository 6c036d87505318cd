import numpy as np

from sapiens_core.contract.settings import StepSettings
from sapiens_core.images.codec import decode_bgr
from sapiens_core.prepare.pixels import detector_pixels
from sapiens_core.triton.respond import respond


class TritonPythonModel:
    """image (B,) uint8 encoded -> pixels (1, H', W', 3) uint8 RGB at network size, image_hw (2,) int32.

    The size is returned twice, see `StepSpec`: finish_hw is for the postprocessor.
    """

    def initialize(self, args):
        self.settings = StepSettings.from_args(args)

    def execute(self, requests):
        return respond(requests, ("image",), self._preprocess)

    def _preprocess(self, encoded):
        image = decode_bgr(encoded)
        pixels = detector_pixels(image, self.settings)
        image_hw = np.array(image.shape[:2], dtype=np.int32)
        return {"pixels": pixels, "image_hw": image_hw, "finish_hw": image_hw}
