from sapiens_core.contract.settings import StepSettings
from sapiens_core.images.codec import decode_bgr
from sapiens_core.prepare.pixels import person_inputs
from sapiens_core.triton.respond import respond


class TritonPythonModel:
    """image (B,) uint8 encoded, bboxes (N, 4) float32 xyxy or none -> one crop per person.

    pixels (N, H', W', 3) uint8 RGB, crops (N, 4) float32 center x, y and scale w, h, person_bboxes (N, 4)
    float32, image_hw (2,) int32.
    """

    def initialize(self, args):
        self.settings = StepSettings.from_args(args)

    def execute(self, requests):
        return respond(requests, ("image", "bboxes"), self._preprocess)

    def _preprocess(self, encoded, bboxes):
        return vars(person_inputs(decode_bgr(encoded), bboxes, self.settings))
