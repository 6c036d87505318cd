"""Engine files of any runtime as functions on arrays, on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sapiens_export.engines.aoti import engine_from_package
from sapiens_export.engines.engine import EngineUnavailableError
from sapiens_export.engines.onnx import engine_from_onnx, has_cuda
from sapiens_export.engines.tensorrt import engine_from_tensorrt
from sapiens_export.engines.torchscript import engine_from_torchscript

if TYPE_CHECKING:
    from pathlib import Path

    from sapiens_core.contract.engines import Runtime
    from sapiens_export.engines.engine import Engine


def default_device(runtime: Runtime) -> str:
    """Return where engines of a runtime run on this machine: on the first NVIDIA GPU if they can.

    Args:
        runtime: What runs them.
    """
    is_usable = torch.cuda.is_available() and (runtime != "onnx" or has_cuda())
    return "cuda" if is_usable else "cpu"


def engine_from_file(runtime: Runtime, path: Path, device: str) -> Engine:
    """Return an engine file as a function on arrays, like `engine_from_network`.

    Args:
        runtime: What runs it.
        path: The file.
        device: "cpu" or "cuda".

    Raises:
        EngineUnavailableError: This machine cannot run it.
        ValueError: It is compiled for another one.
    """
    if runtime == "onnx":
        return engine_from_onnx(path, device)
    if runtime == "tensorrt":
        if device != "cuda":
            raise EngineUnavailableError(f"a TensorRT engine runs on GPUs alone, got device {device!r}")
        return engine_from_tensorrt(path)
    if runtime == "aoti":
        return engine_from_package(path, device)
    return engine_from_torchscript(path, device)
