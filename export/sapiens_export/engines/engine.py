"""Engines as functions: whatever runs them, uint8 pixels in and arrays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

    from sapiens_core.contract.engines import Runtime

Engine = Callable[[NDArray[np.uint8]], tuple[NDArray[Any], ...]]


class EngineUnavailableError(RuntimeError):
    """An engine cannot be built or run on this machine."""


def default_device(runtime: Runtime) -> str:
    """Return where engines of a runtime run on this machine: on the first NVIDIA GPU if they can.

    Args:
        runtime: What runs them.
    """
    if runtime == "onnx":
        from sapiens_export.engines.onnx import has_cuda  # here, because it loads onnxruntime

        return "cuda" if torch.cuda.is_available() and has_cuda() else "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str | None) -> None:
    """Refuse a device that this machine has not.

    Raises:
        EngineUnavailableError: There is no NVIDIA GPU for "cuda".
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineUnavailableError("device cuda must be a GPU that torch can use, got none; use cpu")


def device_name(device: str) -> str:
    """Return what a report calls a device."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def engine_from_network(network: torch.nn.Module, device: str = "cpu") -> Engine:
    """Return a network as a function on arrays: (B, H, W, 3) uint8 RGB to the outputs of its engine.

    Args:
        network: Uint8 pixels to an engine's outputs; moved to the device.
        device: "cpu" or "cuda".
    """
    network = network.to(device)

    def run(pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        with (
            torch.inference_mode(),
            torch.jit.optimized_execution(False),  # type: ignore[attr-defined]  # the plain executor, as served
            torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False),
        ):
            outputs = network(torch.from_numpy(pixels).to(device))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output.cpu().numpy() for output in outputs)

    return run


def engine_from_file(runtime: Runtime, path: Path, device: str) -> Engine:
    """Return an engine file as a function on arrays, like `engine_from_network`.

    Args:
        runtime: What runs it.
        path: The file.
        device: "cpu" or "cuda".

    Raises:
        EngineUnavailableError: This machine cannot run it.
    """
    if runtime == "onnx":
        from sapiens_export.engines.onnx import engine_from_onnx  # each of these loads a library of its own

        return engine_from_onnx(path, device)
    if runtime == "tensorrt":
        if device != "cuda":
            raise EngineUnavailableError(f"a TensorRT engine runs on GPUs alone, got device {device!r}")
        from sapiens_export.engines.tensorrt import engine_from_tensorrt

        return engine_from_tensorrt(path)
    return engine_from_torchscript(path, device)


def engine_from_torchscript(path: Path, device: str = "cpu") -> Engine:
    """Return a TorchScript file as a function on arrays, like `engine_from_network`."""
    return engine_from_network(torch.jit.load(path, map_location=device), device)
