"""Class logits at head resolution to class ids at image size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.contract.limits import check_size
from sapiens_core.finish.bilinear import Strip, axis_sizes, float32_planes, interpolated, strips

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings
    from sapiens_core.finish.bilinear import Planes

MAX_CLASSES = 256  # ids are uint8
TILE = 32  # pixels; smaller tiles skip more of the image, larger ones suit the matrix products
TILES_AT_ONCE = 16  # their interpolated logits stay in the processor's cache


def class_map(
    logits: Planes, network_hw: tuple[int, int] | None, image_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """Find the class of every pixel of the image.

    The result is that of interpolating all logits to image size and taking the largest, the first of
    equals. But an interpolated logit is a convex combination of its sources: where one class leads at all
    sources of a tile, it leads in the whole tile, and only the other tiles are interpolated. Memory beyond
    the result hardly depends on the size of the image.

    Args:
        logits: (C, h, w) float16 or float32, 2 <= C <= 256, finite, at the resolution of the head.
        network_hw: Height and width of the network's input, through which the reference interpolates. None:
            as its lite demos do, from the head straight to the image.
        image_hw: Height and width of the image.

    Returns:
        (H, W) uint8 class ids; 0 is the background.

    Raises:
        ValueError: `logits` has another shape or type, or there are no images of that size.

    Source: Sapiens `predict_by_feat` and `postprocess_result`: bilinear, half-pixel centres, no antialiasing,
    float32. The classes differ only where the two best logits are equal up to float32 rounding.
    """
    _check_logits(logits)
    check_size(image_hw[1], image_hw[0])
    return strip_classes(logits, *tiles(axis_sizes(logits.shape[1:], network_hw, image_hw)))


def strip_classes(logits: Planes, rows: Sequence[Strip], columns: Sequence[Strip]) -> NDArray[np.uint8]:
    """Do what `class_map` does for some rows of tiles, one below the other.

    Args:
        logits: (C, h, w), as much of the source as the rows are told of.
        rows: Strips of the vertical axis, of `TILE` pixels.
        columns: All strips of the horizontal axis.

    Returns:
        (H, W) uint8 class ids, H the pixels of the rows.
    """
    return tiled_classes(
        leaders(map(float32_planes, logits)),
        rows,
        columns,
        lambda row, some: leaders(interpolated(logits, row, some)),
    )


def tiles(axes: tuple[Sequence[int], Sequence[int]]) -> tuple[list[Strip], list[Strip]]:
    """Cut the image into rows and columns of tiles.

    Args:
        axes: The heights and the widths on the way from source to target, see `axis_sizes`.
    """
    heights, widths = axes
    return strips(heights, TILE), strips(widths, TILE)


def tiled_classes(
    leading: NDArray[np.uint8],
    rows: Sequence[Strip],
    columns: Sequence[Strip],
    winners: Callable[[Strip, Sequence[Strip]], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Find the class of every pixel, with interpolation only where several classes lead near by.

    Args:
        leading: (h, w) uint8, the class of the largest logit at every source.
        rows: Strips of the vertical axis, of `TILE` pixels, one below the other.
        columns: All strips of the horizontal axis.
        winners: Takes a row and some tiles of it, side by side, and returns the class of each of their
            pixels by interpolation, (pixels of the row, pixels of the tiles).

    Returns:
        (H, W) uint8 class ids, H the pixels of the rows.
    """
    lowest, highest = _extreme_classes(leading, rows, columns)
    top, width = rows[0].target.start, columns[-1].target.stop
    classes = np.empty((rows[-1].target.stop - top, width), dtype=np.uint8)
    for row, low, high in zip(rows, lowest, highest, strict=True):
        strip = classes[row.target.start - top : row.target.stop - top]
        strip[:] = np.repeat(low, TILE)[:width]
        mixed = np.flatnonzero(low != high)
        for start in range(0, len(mixed), TILES_AT_ONCE):
            some = [columns[index] for index in mixed[start : start + TILES_AT_ONCE]]
            found = winners(row, some)
            for offset, tile in enumerate(some):
                strip[:, tile.target] = found[:, offset * TILE : (offset + 1) * TILE]
    return classes


def finish(logits: Planes, finish_hw: NDArray[np.int32], settings: StepSettings) -> tuple[NDArray[np.uint8]]:
    """Do what the ensemble's last step does: (1, C, h, w) and the image's size to (H, W) class ids."""
    height, width = finish_hw.tolist()
    return (class_map(logits[0], settings.between_hw, (height, width)),)


def _check_logits(logits: Planes) -> None:
    """Refuse what is not the logits of one image."""
    if logits.ndim != 3 or logits.dtype not in (np.float16, np.float32):
        raise ValueError(
            f"logits must be (C, h, w) float16 or float32, got {logits.shape} {logits.dtype}; "
            "pass one image at a time"
        )
    if not 2 <= len(logits) <= MAX_CLASSES:
        raise ValueError(
            f"logits must have 2 to {MAX_CLASSES} classes, got shape {logits.shape}; check its axes"
        )


def _extreme_classes(
    leading: NDArray[np.uint8], rows: Sequence[Strip], columns: Sequence[Strip]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the lowest and the highest class that leads at a source of every tile, each (rows, columns)."""
    low = np.stack([leading[row.source].min(axis=0) for row in rows])
    high = np.stack([leading[row.source].max(axis=0) for row in rows])
    return (
        np.stack([low[:, column.source].min(axis=1) for column in columns], axis=1),
        np.stack([high[:, column.source].max(axis=1) for column in columns], axis=1),
    )


def leaders(planes: Iterable[NDArray[np.float32] | NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Find the plane with the largest value in every place.

    A running maximum over whole planes, several times as fast as `argmax` over the first axis.

    Args:
        planes: One plane per class, all of one shape (h, w).

    Returns:
        Shape (h, w), uint8: index of the plane, the first of equals.
    """
    remaining = iter(planes)
    best = next(remaining).copy()
    found = np.zeros(best.shape, dtype=np.uint8)
    is_better = np.empty(best.shape, dtype=bool)
    candidate = is_better.view(np.uint8)
    for index, plane in enumerate(remaining, start=1):
        np.greater(plane, best, out=is_better)
        np.maximum(plane, best, out=best)
        np.multiply(candidate, np.uint8(index), out=candidate)
        np.maximum(found, candidate, out=found)
    return found
