"""From a checkpoint, or random weights, to a verified engine in a repository."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sapiens_core.model_info import ModelInfo
from sapiens_core.tasks import FAMILIES, NORMALIZATIONS, TASKS, Preprocess, Runtime
from sapiens_export.checkpoints import (
    file_sha256,
    is_torchscript,
    load_state_dict,
    network_from_archive,
    network_from_weights,
    random_network,
    recognised_network,
)
from sapiens_export.engines import engine_from_network, engine_from_torchscript, torchscript_from_network
from sapiens_export.model_config import Serving
from sapiens_export.parity import parity
from sapiens_export.repository import write_models
from sapiens_export.served import ServedNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from sapiens_core.tasks import Task
    from sapiens_export.networks.config import NetworkConfig
    from sapiens_export.parity import ParityReport

UNTRAINED_LICENCE = "none: random weights"


class ParityError(RuntimeError):
    """An engine is too far from its network; it was not installed."""


@dataclass(frozen=True)
class Source:
    """Where a network comes from.

    Attributes:
        network: The network in evaluation mode: (B, 3, H, W) float, normalised RGB, to (B, C, h, w) float.
        config: Its architecture.
        checkpoint_sha256: Hash of its weight file; None for random weights.
    """

    network: nn.Module
    config: NetworkConfig
    checkpoint_sha256: str | None


@dataclass(frozen=True)
class Export:
    """What an export has written.

    Attributes:
        models: Names of the models in the repository.
        info: What is served.
        parity: How far the engine is from the network.
    """

    models: tuple[str, ...]
    info: ModelInfo
    parity: ParityReport


def source_from_checkpoint(task: Task, checkpoint: Path, config: NetworkConfig | None) -> Source:
    """Load the network of a weight file.

    Args:
        task: What it predicts.
        checkpoint: The file, in any of the official layouts.
        config: Its architecture; None: the released one that fits the weights.

    Raises:
        ValueError: The file cannot be read, or does not fit the architecture.
    """
    weights = load_state_dict(checkpoint)
    config = config or recognised_network(task, weights, str(checkpoint))
    network: nn.Module
    if is_torchscript(checkpoint):
        network = network_from_archive(config, checkpoint)
    else:
        network = network_from_weights(config, weights, str(checkpoint))
    return Source(network, config, file_sha256(checkpoint))


def source_from_seed(config: NetworkConfig, seed: int) -> Source:
    """Make an untrained network, for trying things out."""
    return Source(random_network(config, seed), config, checkpoint_sha256=None)


def export_engine(
    source: Source,
    repository: Path,
    *,
    runtime: Runtime = "python",
    preprocess: Preprocess = "full",
    serving: Serving | None = None,
    on_step: Callable[[str], None] = lambda _step: None,
) -> Export:
    """Build an engine, compare it with the network, and install it with everything that serves it.

    Args:
        source: The network.
        repository: Folder of models; made if it is missing.
        runtime: What will run the engine in the server.
        preprocess: "full" normalises like the training; "lite" like the official lite demos, for comparison.
        serving: The operator's choices.
        on_step: Told what is being done, for a progress display.

    Raises:
        ParityError: The engine differs from the network by more than the registry allows.
    """
    config = source.config
    served = ServedNetwork(source.network, NORMALIZATIONS[preprocess]).eval()
    with tempfile.TemporaryDirectory(prefix="sapiens-engine-") as folder:
        engine = Path(folder, "engine")
        on_step("tracing the network")
        torchscript_from_network(served, config.input_hw, engine)
        on_step("comparing the engine with the float32 network")
        report = parity(
            engine_from_torchscript(engine),
            engine_from_network(served),
            config.input_hw,
            tolerance=TASKS[config.task].tolerance,
        )
        if not report.is_passed:
            raise ParityError(
                f"engine must be within {report.tolerance:.1e} of the float32 network, its largest error is "
                f"{report.max_error:.1e} of the output's range; nothing was installed"
            )
        on_step(f"writing {repository}")
        info = _model_info(source, runtime)
        facts = {
            "preprocess": preprocess,
            "engine_sha256": file_sha256(engine),
            "torch": torch.__version__,
            "parity": asdict(report),
        }
        models = write_models(
            repository, config, info, engine=engine, serving=serving or Serving(), facts=facts
        )
    return Export(tuple(models), info, report)


def _model_info(source: Source, runtime: Runtime) -> ModelInfo:
    untrained = source.checkpoint_sha256 is None
    return ModelInfo(
        task=source.config.task.value,
        family=source.config.family,
        size=source.config.size,
        precision="float32",
        runtime=runtime,
        licence=UNTRAINED_LICENCE if untrained else FAMILIES[source.config.family].licence,
        untrained=untrained,
        checkpoint_sha256=source.checkpoint_sha256 or "",
    )
