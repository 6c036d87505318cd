"""The kind of step that runs a network: a TorchScript file, by torch inside Triton's Python backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import triton_python_backend_utils as pb_utils

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.metrics import FAILED, STEP_SECONDS
from sapiens_core.contract.settings import warmup_sizes
from sapiens_core.triton.figures import Figures
from sapiens_core.triton.module import loaded_module, run_module
from sapiens_core.triton.respond import Step, answered, caller_left, failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class TritonPythonModel:
    """pixels (B, H, W, 3) uint8 RGB -> the outputs of its config, by the engine file beside it.

    The config has one input and names the outputs in the order in which the engine returns them.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the engine file onto the device that Triton gave to this instance.

        Raises:
            FileNotFoundError: The version folder has no engine file.
        """
        path = Path(args["model_repository"]) / args["model_version"] / ENGINE_FILES["python"]
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: write it with `sapiens export`")
        is_gpu = args["model_instance_kind"] == "GPU"
        self._device = torch.device(f"cuda:{args['model_instance_device_id']}" if is_gpu else "cpu")
        self._step = Step.from_args(args)
        self._figures = Figures(args["model_name"], STEP_SECONDS, FAILED)
        self._module = loaded_module(path, self._device)
        (pixels,) = json.loads(args["model_config"])["input"]
        shape = [int(dim) for dim in pixels["dims"]]
        for size in warmup_sizes(args):
            run_module(self._module, torch.zeros(size, *shape, dtype=torch.uint8), self._device)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests of one `execute` call with one pass of the network over all that still wait."""
        is_waiting = [not request.is_cancelled() for request in requests]
        waiting = [request for request, waits in zip(requests, is_waiting, strict=True) if waits]
        answers = iter(answered(waiting, self._answers, self._figures) if waiting else ())
        return [next(answers) if waits else failure(caller_left()) for waits in is_waiting]

    def finalize(self) -> None:
        """End."""
        self._figures.close()

    def _answers(self, requests: Sequence[Any]) -> list[Any]:
        batches = [self._pixels(request) for request in requests]
        pixels = batches[0] if len(batches) == 1 else torch.cat(batches)
        results = run_module(self._module, pixels, self._device)
        parts = zip(*(result.split([len(batch) for batch in batches]) for result in results), strict=True)
        return [self._response(part) for part in parts]

    def _pixels(self, request: Any) -> torch.Tensor:
        tensor = pb_utils.get_input_tensor_by_name(request, *self._step.inputs)
        return torch.utils.dlpack.from_dlpack(tensor.to_dlpack())

    def _response(self, part: Sequence[torch.Tensor]) -> Any:
        tensors = [
            pb_utils.Tensor(name, value.numpy()) for name, value in zip(self._step.outputs, part, strict=True)
        ]
        return pb_utils.InferenceResponse(tensors)
