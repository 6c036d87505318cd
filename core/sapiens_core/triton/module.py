"""How a network is run: the one way, in the served engine and wherever an engine is compared with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def loaded_module(path: Path, device: torch.device | str) -> torch.jit.ScriptModule:
    """Load a TorchScript file onto a device."""
    module: torch.jit.ScriptModule = torch.jit.load(path, map_location=device)
    return module


def run_module(
    module: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]],
    pixels: torch.Tensor,
    device: torch.device | str,
) -> list[torch.Tensor]:
    """Return a network's outputs.

    Args:
        module: Uint8 pixels to an engine's outputs, on the device.
        pixels: (B, H, W, 3) uint8, RGB, wherever they are.
        device: Where to compute.

    Returns:
        The outputs in their order, B first, in the memory of the CPU.
    """
    with (
        torch.inference_mode(),
        # The plain executor: the profiling one recompiles at the first calls of every batch size.
        torch.jit.optimized_execution(False),  # type: ignore[attr-defined]
        # Float32 is what the manifest promises.
        torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False),
    ):
        results = module(pixels.to(device))
    results = results if isinstance(results, tuple) else (results,)
    return [result.cpu() for result in results]
