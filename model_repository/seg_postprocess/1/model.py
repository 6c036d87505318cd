from sapiens_core.contract.settings import StepSettings
from sapiens_core.finish.seg import class_map
from sapiens_core.triton.respond import respond


class TritonPythonModel:
    """logits (1, C, h, w) float16, finish_hw (2,) int32 -> class_map (H, W) uint8."""

    def initialize(self, args):
        self.settings = StepSettings.from_args(args)

    def execute(self, requests):
        return respond(requests, ("logits", "finish_hw"), self._class_map)

    def _class_map(self, logits, finish_hw):
        return {"class_map": class_map(logits[0], self.settings.between_hw, tuple(finish_hw.tolist()))}
