"""Engine against float32 network: the same fixed pixels through both, and how far apart the results are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_export.parity.measures import measured
from sapiens_export.parity.report import Measure, ParityReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sapiens_export.engines.engine import Engine
    from sapiens_export.parity.reference import Outputs, Reference


def parity(
    engine: Engine,
    expected: Reference,
    limits: Mapping[str, float],
    *,
    device: str = "cpu",
    max_batch_size: int,
) -> ParityReport:
    """Compare an engine with the network it was made from.

    Args:
        engine: (B, H, W, 3) uint8 RGB to arrays with a batch axis.
        expected: What the network answers.
        limits: Largest allowed values by measure.
        device: Where the engine runs, for the report.
        max_batch_size: Largest batch that it takes.

    Raises:
        ValueError: The engine returns other shapes or types than the network.
    """
    order, outputs = _answers(engine, expected.pixels, max_batch_size)
    wanted = [output[order] for output in expected.outputs]
    _check_kinds(outputs, wanted)
    values = measured(expected, outputs, wanted)
    measures = tuple(Measure(name, value, limits.get(name)) for name, value in values.items())
    if missing := limits.keys() - values.keys():
        raise ValueError(f"limits must be of {sorted(values)}, got {sorted(missing)} too")
    return ParityReport(device, len(expected.pixels), measures)


def _answers(engine: Engine, pixels: NDArray[np.uint8], max_batch_size: int) -> tuple[list[int], Outputs]:
    """Return the outputs for single images and for a batch, and which image each of them is of."""
    singles = [[index] for index in range(len(pixels))]
    batches = singles if max_batch_size < len(pixels) else [singles[0], [*range(len(pixels))]]
    answers = [engine(pixels[batch]) for batch in batches]
    outputs = [np.concatenate(parts) for parts in zip(*answers, strict=True)]
    return [index for batch in batches for index in batch], outputs


def _check_kinds(outputs: Outputs, wanted: Outputs) -> None:
    seen, needed = ([(output.shape, output.dtype.name) for output in each] for each in (outputs, wanted))
    if seen != needed:
        raise ValueError(
            f"engine must return the shapes and types of the float32 network, {needed}, got {seen}"
        )
