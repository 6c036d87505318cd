from sapiens_core.contract.settings import StepSettings
from sapiens_core.finish.normal import unit_normals
from sapiens_core.triton.respond import respond


class TritonPythonModel:
    """normal_map (1, 3, h, w) float32, finish_hw (2,) int32 -> normals (H, W, 3) float32, unit x, y, z."""

    def initialize(self, args):
        self.settings = StepSettings.from_args(args)

    def execute(self, requests):
        return respond(requests, ("normal_map", "finish_hw"), self._normals)

    def _normals(self, normal_map, finish_hw):
        return {"normals": unit_normals(normal_map[0], self.settings.between_hw, tuple(finish_hw.tolist()))}
