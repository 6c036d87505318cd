"""Relative depth to metres, by some that are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_SAMPLES, _MAX_TRIED = 200_000, 2_000  # of the pixels that fit a line, and that choose the first one
_NUM_LINES = 300  # tried, each through two pixels: with half of them wrong, 100 still go through right ones
_MAX_REFITS = 10
_OUTLIER = 2.5 * 1.4826  # medians of the distance: two and a half standard deviations of a normal one
_ROUNDING = 1e-6  # of the largest inverse depth: what is nearer to the line than that is on it


@dataclass(frozen=True)
class Alignment:
    """How relative depth and metres go together: 1 / metres = shift + scale * depth.

    Attributes:
        scale: Negative: larger depth is farther. [1/m]
        shift: Inverse of the distance at which depth is 0. [1/m]
        num_known: How many known distances it was found by.
        inliers: Share of them that it goes by; the others are outliers. 0..1
        median_error: Median distance from all that are known, relative to them; 0.05 is 5 cm at 1 m.
    """

    scale: float
    shift: float
    num_known: int
    inliers: float
    median_error: float


def alignment(depth: NDArray[np.float32], metres: NDArray[np.float64]) -> Alignment:
    """Find scale and shift in inverse depth by least squares, of which outliers are no part.

    Args:
        depth: (N,) float32, relative; larger is farther. What is not finite does not count.
        metres: (N,) how far away the same places are, along the axis of the camera. What is not finite or
            not above 0 does not count.

    Raises:
        ValueError: Fewer than two different depths are known, or what is larger is nearer.

    Source: the advice of the authors of Sapiens (https://github.com/facebookresearch/sapiens/issues/178). The
    first line is the one of least median distance (Rousseeuw, 1984) among some that go through two points
    each; it is then fitted to all points near it until these stay the same.
    """
    x, y = _known(depth, metres)
    line = _least_median(x, y)
    is_near = _near(x, y, line)
    for _ in range(_MAX_REFITS):
        line = _fitted(x[is_near], y[is_near])
        now_near = _near(x, y, line)
        if (now_near == is_near).all() or np.ptp(x[now_near]) == 0:
            break
        is_near = now_near
    scale, shift = line
    if scale >= 0:
        raise ValueError(
            "metres must grow with the depth, whose larger values are farther, got the contrary; "
            "pass distances, not inverse ones"
        )
    errors = np.abs(1 / (shift + scale * x) * y - 1)
    return Alignment(scale, shift, len(x), float(is_near.mean()), float(np.median(errors)))


def metric_depth(depth: NDArray[np.float32], aligned: Alignment) -> NDArray[np.float32]:
    """Turn relative depth into metres.

    Args:
        depth: (H, W) float32, relative; larger is farther.
        aligned: How the two go together.

    Returns:
        (H, W) float32, metres; NaN where that would be at infinity, beyond it, or where the depth is none.
    """
    inverse = aligned.shift + aligned.scale * depth.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = (1 / inverse).astype(np.float32)
    metres[~(np.isfinite(metres) & (metres > 0))] = np.nan
    return metres


def _known(
    depth: NDArray[np.float32], metres: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return depth and inverse metres where both are known, of very many some."""
    is_known = np.isfinite(depth) & np.isfinite(metres) & (metres > 0)
    indices = np.flatnonzero(is_known)
    indices = indices[:: max(1, -(-len(indices) // _MAX_SAMPLES))]
    x, y = depth[indices].astype(np.float64), 1 / metres[indices].astype(np.float64)
    if len(x) < 2 or np.ptp(x) == 0:
        raise ValueError(
            f"two different depths must be known in metres at least, got {len(np.unique(x))}; pass finite "
            "distances above 0"
        )
    return x, y


def _least_median(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Return slope and offset of the line, through two points, that half of the points are nearest to."""
    random = np.random.default_rng(0)
    first, second = random.integers(len(x), size=(2, _NUM_LINES))
    first, second = np.append(first, x.argmin()), np.append(second, x.argmax())
    is_line = x[first] != x[second]
    first, second = first[is_line], second[is_line]
    slopes = (y[second] - y[first]) / (x[second] - x[first])
    offsets = y[first] - slopes * x[first]
    some = slice(None, None, max(1, len(x) // _MAX_TRIED))
    distances = np.abs(offsets[:, None] + slopes[:, None] * x[some] - y[some])
    best = np.median(distances, axis=1).argmin()
    return float(slopes[best]), float(offsets[best])


def _near(x: NDArray[np.float64], y: NDArray[np.float64], line: tuple[float, float]) -> NDArray[np.bool_]:
    slope, offset = line
    distances = np.abs(offset + slope * x - y)
    nearest: NDArray[np.bool_] = distances <= max(_OUTLIER * float(np.median(distances)), _ROUNDING * y.max())
    return nearest


def _fitted(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    middle = x.mean()
    slope = float(((x - middle) * y).sum() / ((x - middle) ** 2).sum())
    return slope, float(y.mean() - slope * middle)
