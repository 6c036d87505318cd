"""The kind of step that finishes what an engine returns on the device where that is, by torch."""

from __future__ import annotations

import json
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import torch

from sapiens_core.contract.metrics import FAILED, REFUSED, STEP_SECONDS
from sapiens_core.contract.settings import StepSettings, finish_function
from sapiens_core.triton.figures import Figures
from sapiens_core.triton.respond import Step, respond

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_DTYPES = {"TYPE_FP16": torch.float16, "TYPE_FP32": torch.float32, "TYPE_UINT8": torch.uint8}


class TritonPythonModel:
    """The inputs of its config, in their order -> its outputs, by the function that it names.

    Its config lets the inputs stay on a GPU. The last one is the size of the image.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the model's config, and finish zeros once: the first time takes a GPU longer."""
        torch.set_num_threads(1)  # instances are the parallelism where there is no GPU
        self._step = Step.from_args(args)
        self._figures = Figures(args["model_name"], STEP_SECONDS, FAILED, REFUSED)
        self._settings = StepSettings.from_args(args)
        self._finish = resolve_name(finish_function(args))
        is_gpu = args["model_instance_kind"] == "GPU"
        device = torch.device(f"cuda:{args['model_instance_device_id']}" if is_gpu else "cpu")
        self._finished(*_zeros(args, device), torch.tensor(self._settings.network_hw))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests."""
        return respond(
            requests,
            self._step.inputs,
            self._finished,
            figures=self._figures,
            taken=_tensor_of,
            halvable=self._step.halvable,
        )

    def finalize(self) -> None:
        """End."""
        self._figures.close()

    def _finished(self, *tensors: torch.Tensor) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            return dict(zip(self._step.outputs, self._finish(*tensors, self._settings), strict=True))


def _zeros(args: Mapping[str, str], device: torch.device) -> list[torch.Tensor]:
    """Return what an engine might return for one image."""
    *maps, _size = json.loads(args["model_config"])["input"]
    return [
        torch.zeros([1, *map(int, tensor["dims"][1:])], dtype=_DTYPES[tensor["data_type"]], device=device)
        for tensor in maps
    ]


def _tensor_of(tensor: Any) -> torch.Tensor:
    return torch.utils.dlpack.from_dlpack(tensor.to_dlpack())
