"""From a checkpoint, or random weights, to a verified engine in a repository."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from sapiens_core.contract.engines import Precision, PrecisionChoice, Runtime
from sapiens_core.contract.model_info import ModelInfo
from sapiens_core.contract.settings import Preprocess
from sapiens_core.labels import keypoint_set
from sapiens_core.recipes.detectors import NANODET_LICENCE
from sapiens_core.recipes.lookup import FAMILIES
from sapiens_export.candidates import Candidate, candidate_reference, fastest_engine
from sapiens_export.disk import check_room, told_if_full
from sapiens_export.engines.build import check_buildable
from sapiens_export.engines.cost import needed_bytes
from sapiens_export.engines.precisions import precisions
from sapiens_export.engines.reduced import ServedNetwork
from sapiens_export.networks.config import NANODET
from sapiens_export.networks.network import Network
from sapiens_export.networks.padding import padded_heads
from sapiens_export.networks.sapiens import SapiensNetwork
from sapiens_export.parity.reference import REFERENCE_FILE
from sapiens_export.repository.manifest import InstalledEngine
from sapiens_export.repository.serving import Serving
from sapiens_export.repository.staging import staging_folder
from sapiens_export.repository.write import check_models, write_models
from sapiens_export.weights.hashes import file_sha256
from sapiens_export.weights.licences import write_notice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from sapiens_export.networks.config import EngineConfig
    from sapiens_export.parity.report import ParityReport
    from sapiens_export.weights.sources import Source

UNTRAINED_LICENCE = "none: random weights"
UNKNOWN_LICENCE = "unknown"
_TRACED_RUNTIMES = ("python", "torchscript")


@dataclass(frozen=True)
class EngineOptions:
    """What is made of a network.

    Attributes:
        runtime: What will run the engine in the server.
        precision: What the network computes in; "auto": the fastest of float16 and bfloat16 that is within
            half of its limits. None: bfloat16 for TensorRT, else auto on a GPU, and float32 on a CPU.
        preprocess: "full" normalises like the training; "lite" like the official lite demos, for comparison.
        flip_test: Average the heatmaps with those of the mirrored image, as the reference's evaluation does.
        licence: Licence of the weights. None: that of a released or built-in network, else unknown.
        name: Tells it from other networks for the task in the repository, e.g. "2b": the ensemble is then
            called `depth_2b`. None: clients call it by the name of the task.
    """

    runtime: Runtime = "python"
    precision: PrecisionChoice | None = None
    preprocess: Preprocess = "full"
    flip_test: bool = False
    licence: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Export:
    """What an export has written.

    Attributes:
        models: Names of the models in the repository.
        info: What is served.
        parity: How far the engine is from the network.
        trtexec: Command that builds a TensorRT engine from an ONNX one; empty: there is no ONNX file.
        notes: What else has changed in the repository, or could not, in sentences.
    """

    models: tuple[str, ...]
    info: ModelInfo
    parity: ParityReport
    trtexec: str = ""
    notes: tuple[str, ...] = ()


_DEFAULTS = EngineOptions()


def export_engine(
    source: Source,
    repository: Path,
    options: EngineOptions = _DEFAULTS,
    *,
    serving: Serving | None = None,
    on_step: Callable[[str], None] = lambda _step: None,
) -> Export:
    """Build an engine, compare it with the network, and install it with everything that serves it.

    Args:
        source: The network.
        repository: Folder of models; made if it is missing.
        options: What to make of it.
        serving: The operator's choices.
        on_step: Told what is being done, for a progress display.

    Raises:
        ValueError: The options do not fit the network, or the repository cannot take it.
        EngineUnavailableError: This machine cannot build the engine.
        ParityError: The engine differs from the network by more than its recipe allows.
        DiskFullError: There is not enough room in the repository.
    """
    config, sha256 = source.config, source.checkpoint_sha256
    if options.precision is None and not isinstance(source.network, Network):
        options = replace(options, precision="float32")  # an archive that is used as it is
    check_options(options)
    info = model_info(config, options, is_trained=sha256 is not None, checkpoint_sha256=sha256 or "")
    flip_indices = _flip_indices(config) if options.flip_test else None

    def served(network: nn.Module, precision: Precision) -> nn.Module:
        normalization = config.recipe.preparation(options.preprocess).normalization
        return ServedNetwork(
            network, normalization, config.recipe, precision=precision, flip_indices=flip_indices
        ).eval()

    candidate = Candidate(
        InstalledEngine(config, info, _settled(serving or Serving(), config), options.name),
        served(source.network, "float32"),
        lambda precision: served(_optimized(source, options.runtime, precision), precision),
        options.precision,
        {**source.origin, **({} if source.seed is None else {"seed": source.seed})},
    )
    return _install(candidate, repository, on_step)


def _settled(serving: Serving, config: EngineConfig) -> Serving:
    """Return choices of which none is left to this machine."""
    if serving.finish != "auto":
        return serving
    is_on_gpu = config.recipe.torch_finish and torch.cuda.is_available()
    return replace(serving, finish="gpu" if is_on_gpu else "cpu")


def check_options(options: EngineOptions) -> None:
    """Refuse now what this machine cannot build.

    Raises:
        ValueError: There are no such engines.
        EngineUnavailableError: Something is missing here.
    """
    for precision in precisions(options.runtime, options.precision):
        check_buildable(options.runtime, precision)


def _optimized(source: Source, runtime: Runtime, precision: Precision) -> nn.Module:
    if isinstance(source.network, SapiensNetwork):
        return padded_heads(source.network)
    if isinstance(source.network, Network):
        return source.network
    if precision != "float32" or runtime not in _TRACED_RUNTIMES:
        raise ValueError(
            f"a TorchScript archive that is used as it is becomes a float32 engine of {_TRACED_RUNTIMES}, "
            f"got {runtime} in {precision}; export the original .pth file"
        )
    return source.network


def export_detector(
    detector: str,
    repository: Path,
    options: EngineOptions = _DEFAULTS,
    *,
    serving: Serving | None = None,
    on_step: Callable[[str], None] = lambda _step: None,
) -> Export:
    """Build a person detector's engine, compare it with the network, and install it like `export_engine`.

    Args:
        detector: Folder in the format of transformers' `save_pretrained`, or name on the Hugging Face hub.
        repository: Folder of models; made if it is missing.
        options: What to make of it; without a licence, what is known of the detector's.
        serving: The operator's choices.
        on_step: Told what is being done, for a progress display.

    Raises:
        ValueError: There is no such detector, it is of an unknown kind, the options are for other networks,
            or the repository cannot take it.
        ParityError: The engine differs from the network by more than its recipe allows.
    """
    from sapiens_export.weights.detectors import load_detector  # here, because it loads transformers

    if options.runtime not in _TRACED_RUNTIMES:
        raise ValueError(
            f"runtime of a detector must be one of {_TRACED_RUNTIMES}, got {options.runtime!r}: PyTorch "
            "cannot export these networks to ONNX; leave it out"
        )
    if options.precision not in (None, "float32"):
        raise ValueError(
            f"precision of {detector} must be float32, in which its library computes, got "
            f"{options.precision!r}; leave it out"
        )
    on_step(f"loading {detector}")
    loaded = load_detector(detector)
    options = replace(options, licence=options.licence or loaded.licence, precision="float32")
    sha256 = file_sha256(loaded.weights)
    info = model_info(loaded.config, options, is_trained=True, checkpoint_sha256=sha256)
    new = InstalledEngine(loaded.config, info, _settled(serving or Serving(), loaded.config), options.name)
    return _install(
        Candidate(new, loaded.network, lambda _precision: loaded.network, options.precision),
        repository,
        on_step,
    )


def _install(candidate: Candidate, repository: Path, on_step: Callable[[str], None]) -> Export:
    new = candidate.new
    num_parameters = sum(parameter.numel() for parameter in candidate.float32.parameters())
    num_engines = len(precisions(new.info.runtime, candidate.precision))
    needed = num_engines * needed_bytes(num_parameters, new.config, new.info)
    with told_if_full(repository, needed), staging_folder(repository) as folder:
        check_models(repository, new)
        check_room(folder, needed)
        beside = folder / "beside"
        beside.mkdir()
        on_step("asking the float32 network about the fixed images")
        expected = candidate_reference(candidate)
        expected.save(beside / REFERENCE_FILE)
        write_notice(beside, new.info.licence)
        built = fastest_engine(candidate, folder, expected, on_step)
        on_step(f"writing {repository}")
        hashes = {file.name: file_sha256(file) for file in sorted(built.folder.iterdir())}
        facts = {**candidate.facts, **built.facts, "engine_sha256": hashes, "parity": built.report.to_json()}
        figures = {measure.name: measure.value for measure in built.report.measures}
        written = write_models(
            repository, built.new, engine=built.folder, beside=beside, facts=facts, parity=figures
        )
    trtexec = str(built.facts.get("trtexec", ""))
    return Export(written.models, built.new.info, built.report, trtexec, written.notes)


def _flip_indices(config: EngineConfig) -> tuple[int, ...]:
    if config.recipe.labels != "keypoints" or not config.labels:
        raise ValueError(f"a flip test needs keypoints with names, got {config.task} of {config.labels!r}")
    return keypoint_set(config.labels).flip_indices


def model_info(
    config: EngineConfig, options: EngineOptions, *, is_trained: bool, checkpoint_sha256: str = ""
) -> ModelInfo:
    """Return what is told about a served network.

    Args:
        config: Its architecture.
        options: What is made of it.
        is_trained: Its weights are not random.
        checkpoint_sha256: Hash of its weight file; empty: there is none, or it is not known.
    """
    return ModelInfo(
        task=config.task,
        family=config.family,
        size=config.size,
        labels=config.labels,
        precision=precisions(options.runtime, options.precision)[0],
        runtime=options.runtime,
        preprocess=options.preprocess,
        flip_test=options.flip_test,
        licence=options.licence or (_licence(config) if is_trained else UNTRAINED_LICENCE),
        untrained=not is_trained,
        checkpoint_sha256=checkpoint_sha256,
    )


def _licence(config: EngineConfig) -> str:
    if config == NANODET:
        return NANODET_LICENCE
    is_released = config.size in FAMILIES[config.family].sizes
    return FAMILIES[config.family].licence if is_released else UNKNOWN_LICENCE
