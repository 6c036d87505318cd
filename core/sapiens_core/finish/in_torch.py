"""Results at image size from what an engine left on its device: the same as in numpy, by torch, where it is.

Only the result comes to the memory of the CPU. Every function does what the ensemble's last step does in its
neighbour of the same task, and takes tensors in place of arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sapiens_core.contract.limits import check_size
from sapiens_core.finish import margins as numpy_margins
from sapiens_core.finish import seg as numpy_seg
from sapiens_core.finish.bilinear import Taps, axis_sizes, moved, taps, unrounded_taps
from sapiens_core.finish.depth import LENGTH_EPSILON
from sapiens_core.finish.normal import LEAST_LENGTH
from sapiens_core.prepare.letterbox import centered_content

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings
    from sapiens_core.finish.bilinear import Strip

_T = TypeVar("_T", bound=np.generic)
_BAND_BYTES = 64 * 2**20  # of interpolated planes at once: a few times as much is in use
# By how much less than the largest logit of an image two classes of a pixel must differ to be told apart
# whatever the order of the sums: both forms take at most some twenty roundings of 2**-24.
_DOUBT = 2.0**-18


def seg(logits: Tensor, finish_hw: Tensor, settings: StepSettings) -> tuple[NDArray[np.uint8]]:
    """Bring logits to class ids: (1, C, h, w) float16 or float32 and the image's size to (H, W) uint8.

    Equal to `sapiens_core.finish.seg` in every pixel.
    """
    image_hw = _size(logits, finish_hw)

    def exact(row: Strip, columns: Sequence[Strip]) -> NDArray[np.uint8]:
        block = _array(logits[0, :, row.source])
        return numpy_seg.strip_classes(block, [moved(row, row.source.start)], columns)

    axes = axis_sizes(logits.shape[2:], settings.between_hw, image_hw)
    return (_class_map(logits[0], axes, exact),)


def margins(
    margins: Tensor, margin_range: Tensor, finish_hw: Tensor, _settings: StepSettings
) -> tuple[NDArray[np.uint8]]:
    """Bring margins to class ids: (1, C, h, w) uint8, (1, h, w) float16 and the size to (H, W) uint8.

    Equal to `sapiens_core.finish.margins` in every pixel.
    """
    image_hw = _size(margins, finish_hw)

    def exact(row: Strip, columns: Sequence[Strip]) -> NDArray[np.uint8]:
        blocks = (_array(margins[0, :, row.source]), _array(margin_range[0, row.source]))
        return numpy_margins.strip_classes(*blocks, [moved(row, row.source.start)], columns)

    shares = torch.from_numpy(numpy_margins.SHARES).to(margins.device)
    below = shares[margins[0].int()] * -margin_range[0].float()
    return (_class_map(below, axis_sizes(margins.shape[2:], image_hw), exact),)


def normal(normal_map: Tensor, finish_hw: Tensor, settings: StepSettings) -> tuple[NDArray[np.float32]]:
    """Bring normals to unit length: (1, 3, h, w) float32 and the image's size to (H, W, 3) float32.

    As `sapiens_core.finish.normal` but for rounding: 1e-6 of the network's longest vector through that of the
    pixel.
    """
    image_hw = _size(normal_map, finish_hw)
    heights, widths = axis_sizes(normal_map.shape[2:], settings.between_hw, image_hw)
    return (_image(normal_map[0], taps(heights), taps(widths), _unit),)


def letterboxed_normal(
    normal_map: Tensor, finish_hw: Tensor, settings: StepSettings
) -> tuple[NDArray[np.float32]]:
    """Do that, (1, 3, h, w) to (H, W, 3) float32, for the second family, as its numpy form does: 1e-6."""
    image_hw = _size(normal_map, finish_hw)
    content = centered_content(image_hw, settings.network_hw)
    inside = normal_map[0, :, content.rows, content.columns]
    unit = inside / _length(inside).clamp(min=float(LEAST_LENGTH))
    heights, widths = axis_sizes(inside.shape[1:], image_hw)
    return (_image(unit, taps(heights), taps(widths)),)


def depth(depth_map: Tensor, finish_hw: Tensor, _settings: StepSettings) -> tuple[NDArray[np.float32]]:
    """Bring depth to the size of the image: (1, 1, h, w) float32 and that to (H, W) float32.

    As `sapiens_core.finish.depth` but for rounding: 1e-6 of the map's largest value.
    """
    image_hw = _size(depth_map, finish_hw)
    rows, columns = (unrounded_taps(*sizes) for sizes in zip(depth_map.shape[2:], image_hw, strict=True))
    return (_image(depth_map[0], rows, columns)[..., 0],)


def _class_map(
    values: Tensor,
    axes: tuple[Sequence[int], Sequence[int]],
    exact: Callable[[Strip, Sequence[Strip]], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Find the largest of the interpolated planes at every pixel.

    Args:
        values: (C, h, w).
        axes: The heights and the widths on the way from source to target.
        exact: The numpy form for one row of tiles. Where two classes are equal up to rounding, which is in
            few pixels, it decides, in whatever order its sums are taken.

    Returns:
        (H, W) uint8.
    """
    heights, widths = axes
    columns = taps(widths)
    tolerance = values.abs().amax().float() * _DOUBT
    found = torch.empty((heights[-1], widths[-1]), dtype=torch.uint8, device=values.device)
    is_doubtful = torch.empty(heights[-1], dtype=torch.bool, device=values.device)
    for band, rows in _bands(taps(heights), len(values) * widths[-1]):
        planes = _interpolated(values, rows, columns)
        best, index = planes.max(dim=0)
        found[band] = index.to(torch.uint8)
        is_doubtful[band] = ((planes >= best - tolerance).sum(dim=0) > 1).any(dim=1)
    classes, doubts = _array(found), _array(is_doubtful)
    strips, tiles = numpy_seg.tiles(axes)
    for row in strips:
        if doubts[row.target].any():
            classes[row.target] = exact(row, tiles)
    return classes


def _image(
    planes: Tensor, rows: Taps, columns: Taps, finish: Callable[[Tensor], Tensor] = lambda found: found
) -> NDArray[np.float32]:
    """Interpolate (C, h, w) to (H, W, C)."""
    image = torch.empty((len(rows.cells), len(columns.cells), len(planes)), device=planes.device)
    for band, some in _bands(rows, len(planes) * len(columns.cells)):
        image[band] = finish(_interpolated(planes, some, columns)).permute(1, 2, 0)
    return _array(image)


def _bands(rows: Taps, num_values: int) -> Iterator[tuple[slice, Taps]]:
    """Cut the rows of the target into bands, for each of whose rows so many values are interpolated."""
    height = max(1, _BAND_BYTES // (4 * num_values))
    for start in range(0, len(rows.cells), height):
        band = slice(start, start + height)
        yield band, Taps(rows.cells[band], rows.weights[band])


def _interpolated(planes: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Interpolate (C, h, w) to (C, rows, columns) float32."""
    top, bottom = int(rows.cells.min()), int(rows.cells.max()) + 1
    source = planes[:, top:bottom].float()
    tall = _weighted(source, Taps(rows.cells - top, rows.weights), dim=1)
    return _weighted(tall, columns, dim=2)


def _weighted(planes: Tensor, along: Taps, dim: int) -> Tensor:
    """Sum the cells of one axis by their weights, one tap after the other."""
    shape = (-1,) + (1,) * (2 - dim)
    cells, weights = (torch.from_numpy(part).to(planes.device) for part in (along.cells, along.weights))
    total = planes.index_select(dim, cells[:, 0]) * weights[:, 0].view(shape)
    for tap in range(1, along.cells.shape[1]):
        total += planes.index_select(dim, cells[:, tap]) * weights[:, tap].view(shape)
    return total


def _unit(vectors: Tensor) -> Tensor:
    return vectors / (_length(vectors) + float(LENGTH_EPSILON))


def _length(vectors: Tensor) -> Tensor:
    # Not square().sum().sqrt(): the first sqrt of a process, in several threads, may be right to 1e-4 only
    # (github.com/pytorch/pytorch/issues/188792).
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=0)
    return lengths


def _size(planes: Tensor, finish_hw: Tensor) -> tuple[int, int]:
    """Return the size of the image, once it and the batch are such as there are."""
    if len(planes) != 1:
        raise ValueError(
            f"{tuple(planes.shape)} must be what an engine returns for one image; pass one at a time"
        )
    height, width = finish_hw.tolist()
    check_size(width, height)
    return height, width


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.contiguous().cpu().numpy()
    return array
