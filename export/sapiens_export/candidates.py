"""An engine before it is installed: built in every precision that comes into question, and compared."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.recipes.tolerances import limits
from sapiens_export.engines.build import build_engine
from sapiens_export.engines.engine import device_name, engine_from_network
from sapiens_export.engines.load import default_device, engine_from_file
from sapiens_export.engines.precisions import AUTO_SHARE, batch_seconds, is_auto, precisions
from sapiens_export.parity.compare import parity
from sapiens_export.parity.reference import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import nn

    from sapiens_core.contract.engines import Precision, PrecisionChoice
    from sapiens_export.parity.reference import Reference
    from sapiens_export.parity.report import ParityReport
    from sapiens_export.repository.manifest import InstalledEngine


class ParityError(RuntimeError):
    """An engine is too far from its network; it was not installed."""


@dataclass(frozen=True)
class Candidate:
    """An engine before it is built.

    Attributes:
        new: What it will be.
        float32: The network that it must equal, as it is served.
        network: Makes the network that it is built from: in a precision, on the CPU.
        precision: What it is to compute in, as it was said; None: nothing was.
        facts: Entries of its manifest.
    """

    new: InstalledEngine
    float32: nn.Module
    network: Callable[[Precision], nn.Module]
    precision: PrecisionChoice | None
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that is built and compared.

    Attributes:
        new: What it is.
        folder: Where its files are.
        facts: Entries of its manifest.
        report: How far it is from the network.
        batch_s: What it takes for a batch, seconds; 0 where it is the only one.
    """

    new: InstalledEngine
    folder: Path
    facts: Mapping[str, object]
    report: ParityReport
    batch_s: float


def fastest_engine(
    candidate: Candidate, folder: Path, expected: Reference, on_step: Callable[[str], None]
) -> BuiltEngine:
    """Build an engine in every precision that comes into question, and return the best one.

    Raises:
        ParityError: None is close enough.
    """
    runtime, wanted = candidate.new.info.runtime, candidate.precision
    share = AUTO_SHARE if is_auto(runtime, wanted) else 1.0
    engines = []
    for precision in precisions(runtime, wanted):
        engines.append(_built(candidate, precision, folder, expected, on_step))
    close = [engine for engine in engines if engine.report.is_within(share)]
    if not close:
        reports = "; ".join(str(engine.report) for engine in engines)
        within = "" if share == 1 else f", of which {share:.0%} may be taken up; add --precision float32"
        raise ParityError(
            f"engine must be close to the float32 network, got {reports}{within}; nothing was installed"
        )
    return min(close, key=lambda engine: engine.batch_s)


def _built(
    candidate: Candidate,
    precision: Precision,
    folder: Path,
    expected: Reference,
    on_step: Callable[[str], None],
) -> BuiltEngine:
    runtime, serving = candidate.new.info.runtime, candidate.new.serving
    new = replace(candidate.new, info=replace(candidate.new.info, precision=precision))
    files = folder / precision / "engine"
    files.mkdir(parents=True)
    on_step(f"building the {runtime} engine in {precision}")
    facts = build_engine(
        candidate.network(precision), new.config, files, info=new.info, max_batch_size=serving.max_batch_size
    )
    on_step("comparing the engine with the float32 network")
    device = default_device(runtime)
    engine = engine_from_file(runtime, files / ENGINE_FILES[runtime], device)
    allowed = limits(new.config.recipe, precision, untrained=new.info.untrained, is_gpu=device == "cuda")
    report = parity(
        engine, expected, allowed, device=device_name(device), max_batch_size=serving.max_batch_size
    )
    is_compared = len(precisions(runtime, candidate.precision)) > 1
    full = np.resize(expected.pixels, (serving.max_batch_size, *expected.pixels.shape[1:]))
    return BuiltEngine(new, files, facts, report, batch_seconds(engine, full) if is_compared else 0.0)


def candidate_reference(candidate: Candidate) -> Reference:
    """Ask the float32 network on the device at hand, and leave that to the engine."""
    config, device = candidate.new.config, default_device("python")
    network = engine_from_network(candidate.float32, device)
    expected = reference(config.recipe, network, config.input_hw, config.output_hw)
    if device == "cuda":
        candidate.float32.cpu()
        torch.cuda.empty_cache()
    return expected
