from pathlib import Path

import torch

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.triton.respond import respond


class TritonPythonModel:
    """tensor (1, 3, H', W') float32 -> depth_map (1, 1, H', W') float32, by the TorchScript file beside."""

    def initialize(self, args):
        folder = Path(args["model_repository"], args["model_version"])
        self.network = torch.jit.load(folder / ENGINE_FILES["python"])

    def execute(self, requests):
        return respond(requests, ("tensor",), self._depth_map)

    def _depth_map(self, tensor):
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            return {"depth_map": self.network(torch.from_numpy(tensor)).numpy()}
