"""The leading classes of every cell to class ids at image size.

Logits of 29 classes at the size of the network's input are 46 MB, of which few numbers decide: interpolation
mixes the four cells around a pixel, and a class wins there only if it is near the top in one of them. So an
engine returns eight classes a cell, chosen among those that lead in the nine cells around, and how far each
is below the cell's highest logit: 19 MB. What is subtracted from all classes of a cell alike changes no
winner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.contract.limits import check_size
from sapiens_core.finish.bilinear import Strip, axis_sizes, float32_planes, interpolated
from sapiens_core.finish.seg import leaders, tiled_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings

_NUM_IDS = 256


def class_map(
    leading_classes: NDArray[np.uint8], margins: NDArray[np.float16], image_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """Find the class of every pixel of the image.

    Args:
        leading_classes: (N, h, w) uint8, different class ids in every cell, the leading one first.
        margins: (N, h, w) float16, their logits less the cell's highest one: 0 for the first, no increase.
        image_hw: Height and width of the image.

    Returns:
        (H, W) uint8 class ids; 0 is the background.

    Raises:
        ValueError: The arrays have other shapes or types, or there are no images of that size.

    Source: Sapiens2 segmentation demo: logits bilinear, half-pixel centres, no antialiasing, float32, then
    the largest. A class that a cell does not name is taken there for as good as the last one named. Classes
    differ from the reference where two logits are equal up to the rounding of their margins, or where more
    classes compete than are named: in a third of the pixels of white noise, in none to 1 of 10,000 of maps
    that are as smooth as a network's.
    """
    if (
        leading_classes.ndim != 3
        or leading_classes.dtype != np.uint8
        or margins.shape != leading_classes.shape
        or margins.dtype != np.float16
    ):
        raise ValueError(
            f"leading_classes must be (N, h, w) uint8 and margins the same in float16, got "
            f"{leading_classes.shape} {leading_classes.dtype} and {margins.shape} {margins.dtype}; pass one "
            "image at a time"
        )
    check_size(image_hw[1], image_hw[0])

    def winners(row: Strip, tiles: Sequence[Strip]) -> NDArray[np.uint8]:
        columns = slice(tiles[0].source.start, max(tile.source.stop for tile in tiles))
        ids, planes = _planes(leading_classes[:, row.source, columns], margins[:, row.source, columns])
        found = leaders(interpolated(planes, _moved(row, row.source.start), _all_moved(tiles, columns.start)))
        return ids[found]

    return tiled_classes(leading_classes[0], axis_sizes(leading_classes.shape[1:], image_hw), winners)


def finish(
    leading_classes: NDArray[np.uint8],
    margins: NDArray[np.float16],
    finish_hw: NDArray[np.int32],
    _settings: StepSettings,
) -> tuple[NDArray[np.uint8]]:
    """Do what the ensemble's last step does: (1, N, h, w) each and the image's size to (H, W) class ids."""
    height, width = finish_hw.tolist()
    return (class_map(leading_classes[0], margins[0], (height, width)),)


def _planes(
    leading_classes: NDArray[np.uint8], margins: NDArray[np.float16]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the classes that are named at all, and a plane of margins for each of them."""
    ids = np.flatnonzero(np.bincount(leading_classes.ravel(), minlength=_NUM_IDS)).astype(np.uint8)
    place = np.zeros(_NUM_IDS, dtype=np.intp)
    place[ids] = np.arange(len(ids))
    values = float32_planes(margins)
    planes = np.broadcast_to(values[-1], (len(ids), *values.shape[1:])).copy()
    np.put_along_axis(planes, place[leading_classes], values, axis=0)
    return ids, planes


def _moved(strip: Strip, start: int) -> Strip:
    return replace(strip, source=slice(strip.source.start - start, strip.source.stop - start))


def _all_moved(strips: Sequence[Strip], start: int) -> list[Strip]:
    return [_moved(strip, start) for strip in strips]
