"""Engines as functions: whatever runs them, uint8 pixels in and arrays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sapiens_core.triton.module import run_module

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
    network = network.to(device)

    def run(pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        return tuple(output.numpy() for output in run_module(network, torch.from_numpy(pixels), device))

    return run
