"""Network to TorchScript: what the portable engine and Triton's libtorch backend run."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


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
