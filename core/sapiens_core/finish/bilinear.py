"""Bilinear interpolation through several sizes at once, a piece of the image at a time.

Along each axis interpolation is a sparse matrix. A strip of it touches few cells and makes a small dense
matrix, so that a tile is two small matrix products.

Source: `torch.nn.functional.interpolate`, to the last bit of every weight. `cv2.resize` rounds less, which
moves results by up to 1e-4 of the difference between neighbouring cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np

from sapiens_core.images.opencv import float32_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True)
class Strip:
    """A piece of one axis of the target and the cells it depends on.

    Attributes:
        target: Pixels of the target.
        source: Cells of the source.
        weights: (target, source) float32; every row sums to 1.
    """

    target: slice
    source: slice
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Taps:
    """The cells that every pixel of one axis of the target depends on.

    Attributes:
        cells: (target, taps) cells of the source; one may stand twice.
        weights: (target, taps) float32; every row sums to 1.
    """

    cells: NDArray[np.intp]
    weights: NDArray[np.float32]


def axis_sizes(*sizes_hw: Sequence[int] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the heights and the widths of the sizes on the way, from source to target; None is no size."""
    heights, widths = zip(*(size_hw for size_hw in sizes_hw if size_hw is not None), strict=True)
    return heights, widths


def strips(sizes: Sequence[int], width: int) -> list[Strip]:
    """Cut one axis into strips.

    Args:
        sizes: Cells of the source, of every size in between, and of the target; at least two sizes.
        width: Pixels of a strip; the last one may be narrower.
    """
    found = taps(sizes)
    targets = (slice(start, min(start + width, sizes[-1])) for start in range(0, sizes[-1], width))
    return [_strip(target, found.cells[target], found.weights[target]) for target in targets]


def taps(sizes: Sequence[int]) -> Taps:
    """Return what every pixel of one axis depends on.

    Args:
        sizes: Cells of the source, of every size in between, and of the target; at least two sizes.
    """
    cells, weights = _taps(_positions(sizes[0], sizes[1]), sizes[0])
    for size_in, size_out in pairwise(sizes[1:]):
        inner, outer_weights = _taps(_positions(size_in, size_out), size_in)
        cells = cells[inner].reshape(size_out, -1)
        weights = (outer_weights[:, :, None] * weights[inner]).reshape(size_out, -1)
    return Taps(cells, weights)


def unrounded_taps(size_in: int, size_out: int) -> Taps:
    """Return the same for one interpolation as OpenCV does it, which rounds no position to float32."""
    positions = size_in / size_out * (np.arange(size_out) + 0.5) - 0.5
    return Taps(*_taps(np.maximum(positions, 0), size_in))


def interpolated(planes: Planes, row: Strip, columns: Sequence[Strip]) -> NDArray[np.float32]:
    """Interpolate the tiles of one row of tiles.

    Args:
        planes: (C, h, w) float16 or float32, all of the source.
        row: Strip of the vertical axis.
        columns: Strips of the horizontal axis, from left to right.

    Returns:
        (C, pixels of `row`, pixels of all `columns`) float32, the tiles side by side.
    """
    left, right = columns[0].source.start, max(column.source.stop for column in columns)
    # A product per plane is so small that OpenBLAS leaves it to one thread: several that wait for each other
    # take forty times as long where the processor is busy, or a container may use less of it than there is.
    tall = row.weights @ float32_planes(planes[:, row.source, left:right])
    wide = np.empty((*tall.shape[:2], sum(len(column.weights) for column in columns)), dtype=np.float32)
    start = 0
    for column in columns:
        stop = start + len(column.weights)
        cells = tall[:, :, column.source.start - left : column.source.stop - left]
        np.matmul(cells, column.weights.T, out=wide[:, :, start:stop])
        start = stop
    return wide


def moved(strip: Strip, start: int) -> Strip:
    """Return a strip of a source of which only what begins at `start` is there."""
    return replace(strip, source=slice(strip.source.start - start, strip.source.stop - start))


def float32_planes(planes: Planes) -> NDArray[np.float32]:
    """Return (C, h, w) or (h, w) as float32."""
    if planes.dtype == np.float32:
        return cast("NDArray[np.float32]", planes)
    return float32_of(cast("NDArray[np.float16]", planes))


def _positions(size_in: int, size_out: int) -> NDArray[np.float32]:
    """Return where in the source the middle of every pixel lies, (size_out,)."""
    scale = np.float64(np.float32(size_in) / np.float32(size_out))
    # PyTorch's compilers fuse this into one float32 operation, which rounds once; so does float64 here.
    exact = scale * (np.arange(size_out) + 0.5) - 0.5
    return np.maximum(exact.astype(np.float32), np.float32(0))


def _taps(
    positions: NDArray[np.float32] | NDArray[np.float64], size_in: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the two cells that every pixel lies between and their weights, each (size_out, 2)."""
    first = np.minimum(positions.astype(np.intp), size_in - 1)
    second = np.minimum(first + 1, size_in - 1)
    share = np.minimum(positions - first.astype(positions.dtype), 1).astype(np.float32)
    return np.stack([first, second], axis=1), np.stack([1 - share, share], axis=1)


def _strip(target: slice, cells: NDArray[np.intp], weights: NDArray[np.float32]) -> Strip:
    """Make the strip of these pixels out of their taps, each (pixels, taps)."""
    needed = cells[weights > 0]
    source = slice(int(needed.min()), int(needed.max()) + 1)
    matrix = np.zeros((len(cells), source.stop - source.start), dtype=np.float32)
    pixels = np.arange(len(cells))
    columns = np.clip(cells - source.start, 0, matrix.shape[1] - 1)  # a tap outside the source weighs nothing
    for column, weight in zip(columns.T, weights.T, strict=True):
        matrix[pixels, column] += weight
    return Strip(target, source, matrix)
