"""Maps over time: steady where the picture rests, new where it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOOKED_AT_WH = 160, 90  # what frames are compared at: noise of pixels and of compression averages out there
_STILL, _CHANGED = 6.0, 24.0  # levels of grey: below the one nothing moved, from the other something did
_CUT_BINS = 8  # per colour
# Two frames of one shot have more of their pixels' colours in common, or differ by less: light fades, too.
_CUT_SHARE, _CUT_LEVELS = 0.5, 24.0


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (90, 160, 3) uint8 of an (H, W, 3) image, for the functions below."""
    small: NDArray[np.uint8] = cv2.resize(image, _LOOKED_AT_WH, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return small


def is_cut(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
    """Return whether another shot begins: two frames differ much, and have few colours in common.

    Args:
        before: (90, 160, 3) uint8, a `thumbnail`.
        after: That of the next frame.
    """
    if cv2.absdiff(before, after).mean() < _CUT_LEVELS:
        return False
    first, second = _histogram(before), _histogram(after)
    return float(np.minimum(first, second).sum()) < _CUT_SHARE


def change(
    before: NDArray[np.uint8], after: NDArray[np.uint8], image_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Return how much changed around every pixel.

    Args:
        before: (h, w, 3) uint8, a `thumbnail`.
        after: That of the next frame.
        image_hw: Height and width of the result.

    Returns:
        (H, W) float32, 0..1: 0 rests, 1 moved.
    """
    differences = cv2.absdiff(before, after).max(axis=2).astype(np.float32)
    moved = ((differences - _STILL) / (_CHANGED - _STILL)).clip(0, 1).astype(np.float32)
    around = cv2.dilate(moved, np.ones((5, 5), np.uint8))
    height, width = image_hw
    large: NDArray[np.float32] = cv2.resize(around, (width, height), interpolation=cv2.INTER_LINEAR).astype(
        np.float32
    )
    return large


def blended(
    before: NDArray[np.float32], after: NDArray[np.float32], moved: NDArray[np.float32], steadiness: float
) -> NDArray[np.float32]:
    """Carry a map on where the picture rests.

    Args:
        before: (H, W) or (H, W, C) float32, what came of the frame before.
        after: Of the frame itself.
        moved: (H, W) float32, 0..1, see `change`.
        steadiness: How much of `before` stays where nothing moved, 0..1.

    Returns:
        As `after`, which it is where something moved, and where `before` is not finite.

    Raises:
        ValueError: The shapes do not fit together.
    """
    if before.shape != after.shape or moved.shape != after.shape[:2]:
        raise ValueError(
            f"maps must have one size, got {before.shape}, {after.shape} and {moved.shape}; "
            "start anew where the size changes"
        )
    kept = (steadiness * (1 - moved)).astype(np.float32).reshape(*moved.shape, *[1] * (after.ndim - 2))
    with np.errstate(invalid="ignore"):  # what is not finite is left out below
        mixed = after + kept * (before - after)
    return np.where(np.isfinite(mixed), mixed, after)


def _histogram(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how the pixels of (h, w, 3) spread over colours, (bins,) with sum 1."""
    levels = (image // (256 // _CUT_BINS)).reshape(-1, 3).astype(np.intp)
    colours = (levels[:, 0] * _CUT_BINS + levels[:, 1]) * _CUT_BINS + levels[:, 2]
    counts = np.bincount(colours, minlength=_CUT_BINS**3)
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
