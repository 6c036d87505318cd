"""Where a network comes from: a weight file, this package, or chance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sapiens_export.networks.config import NANODET, NANODET_WEIGHTS
from sapiens_export.networks.nanodet import NanoDet
from sapiens_export.networks.sapiens2_config import REGISTER_TOKENS, Sapiens2NetworkConfig
from sapiens_export.weights.checkpoints import (
    is_torchscript,
    load_state_dict,
    network_from_archive,
    network_from_weights,
    random_network,
    recognised_network,
)
from sapiens_export.weights.hashes import file_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from sapiens_core.recipes.recipe import Task
    from sapiens_export.networks.config import EngineConfig, WeightsConfig


@dataclass(frozen=True)
class Source:
    """Where a network comes from.

    Attributes:
        network: The network in evaluation mode: (B, 3, H, W) float, normalised RGB, to what `ServedNetwork`
            reduces.
        config: Its architecture.
        checkpoint_sha256: Hash of its weight file; None for random weights.
        seed: Seed of random weights; None: there are none, or it is not known.
        origin: Where the file was published, for the manifest; empty: not known.
    """

    network: nn.Module
    config: EngineConfig
    checkpoint_sha256: str | None
    seed: int | None = None
    origin: Mapping[str, object] = field(default_factory=dict)


def source_from_checkpoint(
    task: Task, checkpoint: Path, config: WeightsConfig | None, *, labels: str | None = None
) -> Source:
    """Load the network of a weight file.

    A TorchScript archive whose weights have other names or shapes is used as it is, which runs the program
    in it; nothing else of any file is run.

    Args:
        task: What it predicts.
        checkpoint: The file, in any of the official layouts.
        config: Its architecture; None: the released one that fits the weights.
        labels: Set of keypoints or classes of a released network, where their number does not tell.

    Raises:
        ValueError: The file cannot be read, or does not fit the architecture.
    """
    weights = load_state_dict(checkpoint)
    config = config or recognised_config(task, weights, str(checkpoint), labels=labels)
    return Source(_loaded_network(config, weights, checkpoint), config, file_sha256(checkpoint))


def recognised_config(
    task: Task, weights: Mapping[str, Tensor], source: str, *, labels: str | None = None
) -> WeightsConfig:
    """Tell the network that weights belong to, whatever its family.

    Args:
        task: What it predicts.
        weights: Names to tensors, of which the shape counts.
        source: What to call the weights in errors.
        labels: Set of keypoints or classes of a released network, where their number does not tell.

    Raises:
        ValueError: They are of no network that is known.
    """
    if any(name.endswith(REGISTER_TOKENS) for name in weights):
        from sapiens_export.weights.sapiens2 import recognised_sapiens2  # here, because it loads transformers

        return recognised_sapiens2(task, weights, source)
    return recognised_network(task, weights, source, labels=labels)


def _loaded_network(config: WeightsConfig, weights: Mapping[str, Tensor], checkpoint: Path) -> nn.Module:
    if isinstance(config, Sapiens2NetworkConfig):
        from sapiens_export.weights.sapiens2 import sapiens2_from_weights

        return sapiens2_from_weights(config, weights, str(checkpoint))
    try:
        return network_from_weights(config, weights, str(checkpoint))
    except ValueError:
        if not is_torchscript(checkpoint):
            raise
    return network_from_archive(config, checkpoint)


def source_from_seed(config: WeightsConfig, seed: int) -> Source:
    """Make an untrained network, for trying things out."""
    if isinstance(config, Sapiens2NetworkConfig):
        from sapiens_export.weights.sapiens2 import random_sapiens2

        return Source(random_sapiens2(config, seed), config, checkpoint_sha256=None, seed=seed)
    return Source(random_network(config, seed), config, checkpoint_sha256=None, seed=seed)


def built_in_detector() -> Source:
    """Load the detector whose weights are part of this package."""
    network = NanoDet()
    network.load_state_dict(load_state_dict(NANODET_WEIGHTS))
    return Source(network.eval(), NANODET, file_sha256(NANODET_WEIGHTS))
