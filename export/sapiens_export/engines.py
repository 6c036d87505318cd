"""Engine files from networks, and engine files as functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

Engine = Callable[[NDArray[np.uint8]], tuple[NDArray[Any], ...]]


def torchscript_from_network(network: nn.Module, input_hw: tuple[int, int], path: Path) -> None:
    """Trace a network into a TorchScript file: any batch size, this input size only.

    Args:
        network: Uint8 pixels to an engine's outputs; in evaluation mode.
        input_hw: Height and width of its input.
        path: File to write.
    """
    pixels = torch.zeros(1, *input_hw, 3, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        # That the trace freezes the input size is intended.
        warnings.simplefilter("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # Tracing reads every property of a network, also those that its library is about to remove.
        warnings.simplefilter("ignore", category=FutureWarning)
        traced = torch.jit.trace(network, pixels, check_trace=False)
        frozen = torch.jit.freeze(traced)
    _follow_input(frozen.graph)
    frozen.save(path)


def _follow_input(graph: torch.Graph) -> None:
    """Compute on the device of the input what the trace says to compute on the CPU, where it was made."""
    pixels = list(graph.inputs())[1]
    device = graph.insertNode(graph.create("prim::device", [pixels], 1)).output()
    device.setType(torch.DeviceObjType.get())
    device.node().moveBefore(next(graph.nodes()))
    for constant in graph.findAllNodes("prim::Constant"):  # type: ignore[attr-defined]
        if constant.output().type().kind() == "DeviceObjType":
            constant.output().replaceAllUsesWith(device)


def engine_from_network(network: nn.Module) -> Engine:
    """Return a network as a function on arrays: (B, H, W, 3) uint8 RGB to the outputs of its engine."""
    return _engine(network)


def engine_from_torchscript(path: Path) -> Engine:
    """Return a TorchScript file as a function on arrays, like `engine_from_network`."""
    return _engine(torch.jit.load(path, map_location="cpu"))


def _engine(module: torch.nn.Module) -> Engine:
    def run(pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        # The plain executor, as in the server.
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            outputs = module(torch.from_numpy(pixels))
        return tuple(output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,)))

    return run
