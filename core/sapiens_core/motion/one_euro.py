"""The One-Euro filter: steady where something rests, prompt where it moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class OneEuro:
    """How much is smoothed.

    Attributes:
        min_cutoff_hz: Of what rests: lower is steadier. [Hz]
        beta: How much the cutoff rises with speed: higher lags less. [Hz per unit of speed]
        speed_cutoff_hz: Of the speed itself. [Hz]
    """

    min_cutoff_hz: float = 1.0
    beta: float = 5.0
    speed_cutoff_hz: float = 1.0


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Values at a moment.

    Attributes:
        values: (...), smooth.
        speeds: (...), smooth. [units/s]
        time_s: When. [s]
    """

    values: NDArray[np.float64]
    speeds: NDArray[np.float64]
    time_s: float


def smoothed(
    before: Smoothed | None, raw: NDArray[np.float32], time_s: float, how: OneEuro, unit: float = 1.0
) -> Smoothed:
    """Return smooth values.

    Args:
        before: What came of the moment before; None: this is the first.
        raw: (...), of the same shape as before. NaN is unknown, and after it values start anew.
        time_s: When; a moment that is not later than the one before counts as the first. [s]
        how: How much.
        unit: What speeds are counted in, such as the height of a person: the same motion is smoothed alike,
            however large the picture.

    Source: Casiez, Roussel, Vogel: 1 Euro Filter (CHI 2012).
    """
    values: NDArray[np.float64] = raw.astype(np.float64)
    if before is None or time_s <= before.time_s or before.values.shape != values.shape:
        return Smoothed(values, np.zeros_like(values), time_s)
    passed_s = time_s - before.time_s
    is_known = np.isfinite(before.values)
    last = np.where(is_known, before.values, values)
    speeds = (values - last) / passed_s
    share = _share(np.float64(how.speed_cutoff_hz), passed_s)
    speeds = before.speeds + share * (speeds - before.speeds)
    speeds[~np.isfinite(speeds)] = 0
    cutoffs = how.min_cutoff_hz + how.beta * np.abs(speeds) / unit
    smooth = last + _share(cutoffs, passed_s) * (values - last)
    return Smoothed(smooth, speeds, time_s)


def jitter(points: NDArray[np.float32]) -> float:
    """Return how much points tremble: the root of the mean square of their second differences.

    Args:
        points: (T, K, 2), x and y, in T frames one after another; NaN is left out.

    Returns:
        In the unit of the points; 0 for points at rest or at constant speed. NaN: there are fewer than three
        frames.
    """
    bends = np.diff(points.astype(np.float64), n=2, axis=0)
    squares = np.square(bends).sum(axis=-1)
    known = squares[np.isfinite(squares)]
    return float(np.sqrt(known.mean())) if known.size else float("nan")


def _share(cutoff_hz: NDArray[np.float64] | np.float64, passed_s: float) -> NDArray[np.float64]:
    """Return how much of a change a low-pass filter lets through at once, 0..1."""
    turned = 2 * np.pi * cutoff_hz * passed_s
    return np.asarray(turned / (1 + turned), np.float64)
