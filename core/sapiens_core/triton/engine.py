"""The kind of step that runs a network: TorchScript or a package, by torch inside Triton's Python backend."""

from __future__ import annotations

import json
import os
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import triton_python_backend_utils as pb_utils

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.metrics import FAILED, STEP_SECONDS
from sapiens_core.contract.settings import batch_sizes_to_prepare, num_instances
from sapiens_core.processors import num_processors
from sapiens_core.triton.figures import Figures
from sapiens_core.triton.module import Runner, loaded_module
from sapiens_core.triton.respond import EngineError, Step, answered, caller_left, failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ANSWERS_GO_S = 5.0  # by then the answers to the requests that saw the error have left the process
_THREADS_VARIABLE = "OMP_NUM_THREADS"  # by which an operator says how many threads compute


class TritonPythonModel:
    """pixels (B, H, W, 3) uint8 RGB -> the outputs of its config, by the engine file beside it.

    The config has one input and names the outputs in the order in which the engine returns them.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the engine file onto the device that Triton gave to this instance.

        Raises:
            FileNotFoundError: The version folder has no engine file.
            ValueError: The engine is compiled for another machine.
        """
        path = _engine_file(Path(args["model_repository"]) / args["model_version"])
        is_gpu = args["model_instance_kind"] == "GPU"
        if not is_gpu and _THREADS_VARIABLE not in os.environ:
            torch.set_num_threads(max(1, int(num_processors() / num_instances(args))))
        device = torch.device(f"cuda:{args['model_instance_device_id']}" if is_gpu else "cpu")
        self._step = Step.from_args(args)
        self._figures = Figures(args["model_name"], STEP_SECONDS, FAILED)
        self._runner, self._is_broken = Runner(loaded_module(path, device), device), False
        (pixels,) = json.loads(args["model_config"])["input"]
        shape = [int(dim) for dim in pixels["dims"]]
        for size in batch_sizes_to_prepare(args, is_gpu=is_gpu):
            self._runner.prepare(torch.zeros(size, *shape, dtype=torch.uint8))

    def is_ready(self) -> bool:
        """Return whether the model can answer; Triton asks from release 26.03 on."""
        return not self._is_broken

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
        try:
            results = self._runner(pixels)
        except RuntimeError as error:
            # TorchScript and packages tell of it in a RuntimeError of their own.
            if not isinstance(error, torch.AcceleratorError) and self._runner.is_device_well():
                raise
            self._end_soon(error)
            raise EngineError(
                f"the GPU of this model has failed, and its process ends: {_first_line(error)}",
                pb_utils.TritonError.UNAVAILABLE,
            ) from error
        parts = zip(*(result.split([len(batch) for batch in batches]) for result in results), strict=True)
        return [self._response(part) for part in parts]

    def _end_soon(self, error: RuntimeError) -> None:
        """End this process once its answers have gone: after such an error CUDA refuses all that it is asked.

        So whoever watches the server sees a model that is not ready, and starts it again.
        """
        self._figures.failed(error)
        pb_utils.Logger.log_error("".join(traceback.format_exception(error)))
        if not self._is_broken:
            self._is_broken = True
            timer = threading.Timer(_ANSWERS_GO_S, os._exit, (1,))
            timer.daemon = True
            timer.start()

    def _pixels(self, request: Any) -> torch.Tensor:
        tensor = pb_utils.get_input_tensor_by_name(request, *self._step.inputs)
        return torch.utils.dlpack.from_dlpack(tensor.to_dlpack())

    def _response(self, part: Sequence[torch.Tensor]) -> Any:
        tensors = [
            pb_utils.Tensor(name, value.numpy()) for name, value in zip(self._step.outputs, part, strict=True)
        ]
        return pb_utils.InferenceResponse(tensors)


def _engine_file(folder: Path) -> Path:
    path, package = folder / ENGINE_FILES["python"], folder / ENGINE_FILES["aoti"]
    if package.is_file():
        return package
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: write it with `sapiens export`")
    return path


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
