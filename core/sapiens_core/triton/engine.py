"""The portable engine: a TorchScript file run by torch inside a Python-backend model, on CPU or GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import triton_python_backend_utils as pb_utils

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.settings import warmup_sizes
from sapiens_core.triton.respond import caller_left, failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class TorchScriptEngine:
    """An engine file on the device that Triton gave to this instance.

    Args:
        args: What Triton passes to `initialize`. The model's config has one input and names the outputs in
            the order in which the engine returns them.

    Raises:
        FileNotFoundError: The version folder has no engine file.
    """

    def __init__(self, args: Mapping[str, str]) -> None:
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / ENGINE_FILES["python"]
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: write it with `sapiens export`")
        is_gpu = args["model_instance_kind"] == "GPU"
        self._device = torch.device(f"cuda:{args['model_instance_device_id']}" if is_gpu else "cpu")
        self._input = config["input"][0]["name"]
        self._outputs = [output["name"] for output in config["output"]]
        torch.backends.cudnn.allow_tf32 = False  # float32 is what the manifest promises
        self._module = torch.jit.load(path, map_location=self._device)
        shape = [int(dim) for dim in config["input"][0]["dims"]]
        for size in warmup_sizes(args):
            self._run(torch.zeros(size, *shape, dtype=torch.uint8))

    def respond(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests of one `execute` call with one pass of the network over all that still wait."""
        is_waiting = [not request.is_cancelled() for request in requests]
        waiting = [request for request, waits in zip(requests, is_waiting, strict=True) if waits]
        try:
            answers = iter(self._answers(waiting) if waiting else [])
        except Exception as error:  # noqa: BLE001 - each failure is answered, see `failure`
            return [failure(error) for _ in requests]
        return [next(answers) if waits else failure(caller_left()) for waits in is_waiting]

    def _answers(self, requests: Sequence[Any]) -> list[Any]:
        batches = [self._pixels(request) for request in requests]
        results = self._run(batches[0] if len(batches) == 1 else torch.cat(batches))
        parts = zip(*(result.split([len(batch) for batch in batches]) for result in results), strict=True)
        return [self._response(part) for part in parts]

    def _pixels(self, request: Any) -> torch.Tensor:
        tensor = pb_utils.get_input_tensor_by_name(request, self._input)
        return torch.utils.dlpack.from_dlpack(tensor.to_dlpack())

    def _run(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        # The plain executor: the profiling one recompiles at the first calls of every batch size.
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            results = self._module(pixels.to(self._device))
        results = results if isinstance(results, tuple) else (results,)
        return [result.cpu() for result in results]

    def _response(self, part: Sequence[torch.Tensor]) -> Any:
        tensors = [
            pb_utils.Tensor(name, value.numpy()) for name, value in zip(self._outputs, part, strict=True)
        ]
        return pb_utils.InferenceResponse(tensors)
