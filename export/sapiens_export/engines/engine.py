"""Engines as functions: whatever runs them, uint8 pixels in and arrays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sapiens_core.triton.module import Runner

if TYPE_CHECKING:
    from sapiens_core.triton.module import Module

Engine = Callable[[NDArray[np.uint8]], tuple[NDArray[Any], ...]]


class EngineUnavailableError(RuntimeError):
    """An engine cannot be built or run on this machine."""


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
    return engine_from_module(network.to(device), device)


def engine_from_module(module: Module, device: str) -> Engine:
    """Return what `loaded_module` loads as a function on arrays, like `engine_from_network`.

    Args:
        module: Uint8 pixels on the device to an engine's outputs there.
        device: "cpu" or "cuda".
    """
    runner = Runner(module, device, is_exact=True)

    def run(pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        return tuple(output.numpy() for output in runner(torch.from_numpy(pixels)))

    return run
