"""What an operator left to the machine that exports."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from sapiens_export.networks.config import EngineConfig
    from sapiens_export.repository.serving import Serving

# Five networks, each of them twice, then leave room for what they compute.
_SHARE_OF_TWO_COPIES = 8


def settled(serving: Serving, config: EngineConfig, weight_bytes: int) -> Serving:
    """Return choices of which none is left to this machine.

    Args:
        serving: The operator's choices.
        config: The network.
        weight_bytes: What a copy of it takes.
    """
    gpu_bytes = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    finish = serving.finish
    if finish == "auto":
        finish = "gpu" if gpu_bytes and config.recipe.torch_finish else "cpu"
    return replace(serving, finish=finish, instances=serving.instances or num_copies(weight_bytes, gpu_bytes))


def num_copies(weight_bytes: int, gpu_bytes: int) -> int:
    """Return how many copies of an engine keep its device busy: two on a GPU that has room, else one.

    While its only copy computes, Triton's batcher takes no notice of requests that join an empty queue with a
    bound: they wait until another one comes when the copy is idle, or for half a second.

    Args:
        weight_bytes: What a copy takes.
        gpu_bytes: Memory of the GPU; 0: there is none, and copies would share its processors.
    """
    return 2 if gpu_bytes and 2 * weight_bytes * _SHARE_OF_TWO_COPIES <= gpu_bytes else 1
