"""From a checkpoint, or random weights, to a verified engine in a repository."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import cv2
import torch

from sapiens_core.families import FAMILIES
from sapiens_core.labels import keypoint_set
from sapiens_core.model_info import ModelInfo
from sapiens_core.tasks import NORMALIZATIONS, TASKS, Preprocess, Runtime, Task
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
from sapiens_export.networks.config import CUSTOM_SIZE, HOG_DETECTOR
from sapiens_export.parity import in_order_of, parity
from sapiens_export.repository import staging_folder, write_models
from sapiens_export.served import ServedNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from sapiens_export.networks.config import DetectorConfig, EngineConfig, NetworkConfig
    from sapiens_export.parity import ParityReport

UNTRAINED_LICENCE = "none: random weights"
UNKNOWN_LICENCE = "unknown"
HOG_LICENCE = "Apache-2.0: OpenCV"


class ParityError(RuntimeError):
    """An engine is too far from its network; it was not installed."""


@dataclass(frozen=True)
class Source:
    """Where a network comes from.

    Attributes:
        network: The network in evaluation mode: (B, 3, H, W) float, normalised RGB, to (B, C, h, w) float.
        config: Its architecture.
        checkpoint_sha256: Hash of its weight file; None for random weights.
        seed: Seed of random weights; None: there are none, or it is not known.
        origin: Where the file was published, for the manifest; empty: not known.
    """

    network: nn.Module
    config: NetworkConfig
    checkpoint_sha256: str | None
    seed: int | None = None
    origin: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Export:
    """What an export has written.

    Attributes:
        models: Names of the models in the repository.
        info: What is served.
        parity: How far the engine is from the network; None: there is no network.
    """

    models: tuple[str, ...]
    info: ModelInfo
    parity: ParityReport | None


def source_from_checkpoint(
    task: Task, checkpoint: Path, config: NetworkConfig | None, *, labels: str | None = None
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
    config = config or recognised_network(task, weights, str(checkpoint), labels=labels)
    return Source(_loaded_network(config, weights, checkpoint), config, file_sha256(checkpoint))


def _loaded_network(config: NetworkConfig, weights: Mapping[str, Tensor], checkpoint: Path) -> nn.Module:
    try:
        return network_from_weights(config, weights, str(checkpoint))
    except ValueError:
        if not is_torchscript(checkpoint):
            raise
    return network_from_archive(config, checkpoint)


def source_from_seed(config: NetworkConfig, seed: int) -> Source:
    """Make an untrained network, for trying things out."""
    return Source(random_network(config, seed), config, checkpoint_sha256=None, seed=seed)


def export_engine(
    source: Source,
    repository: Path,
    *,
    runtime: Runtime = "python",
    preprocess: Preprocess = "full",
    flip_test: bool = False,
    licence: str | None = None,
    serving: Serving | None = None,
    on_step: Callable[[str], None] = lambda _step: None,
) -> Export:
    """Build an engine, compare it with the network, and install it with everything that serves it.

    Args:
        source: The network.
        repository: Folder of models; made if it is missing.
        runtime: What will run the engine in the server.
        preprocess: "full" normalises like the training; "lite" like the official lite demos, for comparison.
        flip_test: Average the heatmaps with those of the mirrored image, as the reference's evaluation does.
        licence: Licence of the weights; None: the family's for a released size, else unknown.
        serving: The operator's choices.
        on_step: Told what is being done, for a progress display.

    Raises:
        ValueError: A flip test is asked of what has no left and right keypoints.
        ParityError: The engine differs from the network by more than the registry allows.
    """
    config = source.config
    flip_indices = _flip_indices(config) if flip_test else None
    normalization = NORMALIZATIONS[preprocess]
    served = ServedNetwork(source.network, normalization, config.task, flip_indices=flip_indices).eval()
    info = _model_info(source, runtime, preprocess, flip_test=flip_test, licence=licence)
    facts = {**source.origin, **({} if source.seed is None else {"seed": source.seed})}
    return _install(served, config, info, repository, serving or Serving(), on_step, facts)


def export_detector(
    name: str,
    repository: Path,
    *,
    runtime: Runtime = "python",
    licence: str | None = None,
    serving: Serving | None = None,
    on_step: Callable[[str], None] = lambda _step: None,
) -> Export:
    """Build a person detector's engine, compare it with the network, and install it like `export_engine`.

    Args:
        name: Folder in the format of transformers' `save_pretrained`, or name on the Hugging Face hub.
        repository: Folder of models; made if it is missing.
        runtime: What will run the engine in the server.
        licence: Licence of the weights; None: what is known of the detector.
        serving: The operator's choices.
        on_step: Told what is being done, for a progress display.

    Raises:
        ValueError: There is no such detector, or it is of an unknown kind.
        ParityError: The engine differs from the network by more than the registry allows.
    """
    from sapiens_export.networks.detectors import load_detector  # here, because it loads transformers

    on_step(f"loading {name}")
    detector = load_detector(name)
    info = _detector_info(
        detector.config, runtime, licence or detector.licence, file_sha256(detector.weights)
    )
    return _install(detector.network, detector.config, info, repository, serving or Serving(), on_step)


def install_hog_detector(repository: Path, *, serving: Serving | None = None) -> Export:
    """Install OpenCV's people detector, which has no engine file.

    Args:
        repository: Folder of models; made if it is missing.
        serving: The operator's choices.
    """
    info = _detector_info(HOG_DETECTOR, "python", HOG_LICENCE, checkpoint_sha256="")
    models = write_models(
        repository,
        HOG_DETECTOR,
        info,
        engine=None,
        serving=serving or Serving(),
        facts={"opencv": cv2.__version__},
    )
    return Export(tuple(models), info, parity=None)


def _install(
    served: nn.Module,
    config: EngineConfig,
    info: ModelInfo,
    repository: Path,
    serving: Serving,
    on_step: Callable[[str], None],
    facts: Mapping[str, object] = MappingProxyType({}),
) -> Export:
    with staging_folder(repository) as folder:
        engine = folder / "engine"
        on_step("tracing the network")
        torchscript_from_network(served, config.input_hw, engine)
        on_step("comparing the engine with the float32 network")
        compared, reference = engine_from_torchscript(engine), engine_from_network(served)
        if config.task is Task.DETECT:
            compared = in_order_of(reference, compared)
        report = parity(compared, reference, config.input_hw, tolerance=TASKS[config.task].tolerance)
        if not report.is_passed:
            raise ParityError(
                f"engine must be within {report.tolerance:.1e} of the float32 network, its largest error is "
                f"{report.max_error:.1e} of the output's range; nothing was installed"
            )
        on_step(f"writing {repository}")
        facts = {
            **facts,
            "engine_sha256": file_sha256(engine),
            "torch": torch.__version__,
            "parity": asdict(report),
        }
        models = write_models(repository, config, info, engine=engine, serving=serving, facts=facts)
    return Export(tuple(models), info, report)


def _flip_indices(config: NetworkConfig) -> tuple[int, ...]:
    if config.task is not Task.POSE or not config.labels:
        raise ValueError(
            f"a flip test needs keypoints with names, got {config.task.value} of {config.labels!r}"
        )
    return keypoint_set(config.labels).flip_indices


def _default_licence(source: Source) -> str:
    if source.checkpoint_sha256 is None:
        return UNTRAINED_LICENCE
    config = source.config
    return UNKNOWN_LICENCE if config.size == CUSTOM_SIZE else FAMILIES[config.family].licence


def _model_info(
    source: Source, runtime: Runtime, preprocess: Preprocess, *, flip_test: bool, licence: str | None
) -> ModelInfo:
    return ModelInfo(
        task=source.config.task.value,
        family=source.config.family,
        size=source.config.size,
        labels=source.config.labels,
        precision="float32",
        runtime=runtime,
        preprocess=preprocess,
        flip_test=flip_test,
        licence=licence or _default_licence(source),
        untrained=source.checkpoint_sha256 is None,
        checkpoint_sha256=source.checkpoint_sha256 or "",
    )


def _detector_info(
    config: DetectorConfig, runtime: Runtime, licence: str, checkpoint_sha256: str
) -> ModelInfo:
    return ModelInfo(
        task=config.task.value,
        family=config.family,
        size=config.size,
        labels="",
        precision="float32",
        runtime=runtime,
        preprocess="full",
        flip_test=False,
        licence=licence,
        untrained=False,
        checkpoint_sha256=checkpoint_sha256,
    )
