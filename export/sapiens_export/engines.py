"""Engine files from networks, and engine files as functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

    from sapiens_export.served import ServedNetwork

Engine = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

_TRACED_BATCH = 2


def torchscript_from_network(network: ServedNetwork, input_hw: tuple[int, int], path: Path) -> None:
    """Trace a network into a TorchScript file: any batch size, this input size only.

    Args:
        network: In evaluation mode.
        input_hw: Height and width of its input.
        path: File to write.
    """
    pixels = torch.zeros(_TRACED_BATCH, *input_hw, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        # That the trace freezes the input size is intended.
        warnings.simplefilter("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        traced = torch.jit.trace(network, pixels, check_trace=False)
        torch.jit.freeze(traced).save(path)


def engine_from_network(network: ServedNetwork) -> Engine:
    """Return a network as a function on arrays: (B, H, W, 3) uint8 RGB to (B, C, h, w) float32."""
    return _engine(network)


def engine_from_torchscript(path: Path) -> Engine:
    """Return a TorchScript file as a function on arrays: (B, H, W, 3) uint8 RGB to (B, C, h, w) float32."""
    return _engine(torch.jit.load(path, map_location="cpu"))


def _engine(module: torch.nn.Module) -> Engine:
    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            outputs: NDArray[np.float32] = module(torch.from_numpy(pixels)).numpy()
        return outputs

    return run
