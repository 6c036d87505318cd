"""How far each class is below the best one, in a byte, to class ids at image size.

Logits of 29 classes at the size of the network's input are 46 MB in half precision. But the class of a pixel
does not hang on what is subtracted from all classes of a cell alike, so that an engine returns how far each
logit is below the highest of its cell: as the root of its share of the largest such margin, in one byte,
which is exact where classes are close to each other. With the largest margins themselves that is 24 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.contract.limits import check_size
from sapiens_core.finish.bilinear import Strip, axis_sizes, float32_planes, interpolated, moved
from sapiens_core.finish.seg import leaders, tiled_classes, tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings

SHARES = (np.arange(256, dtype=np.float32) / np.float32(255)) ** 2  # of the largest margin, by the byte


def class_map(
    margins: NDArray[np.uint8], margin_range: NDArray[np.float16], image_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """Find the class of every pixel of the image.

    Args:
        margins: (C, h, w) uint8, m: a logit is `(m / 255)**2 * margin_range` below the highest of its cell.
        margin_range: (h, w) float16, the largest of these margins.
        image_hw: Height and width of the image.

    Returns:
        (H, W) uint8 class ids; 0 is the background.

    Raises:
        ValueError: The arrays have other shapes or types, or there are no images of that size.

    Source: Sapiens2 segmentation demo: logits bilinear, half-pixel centres, no antialiasing, float32, then
    the largest. Classes differ from the reference where the two best logits are equal up to the rounding of
    margins: in about 1 of 1,000 pixels where many regions meet, in 5 of 1,000 of an untrained network.
    """
    if (
        margins.ndim != 3
        or margins.dtype != np.uint8
        or margin_range.shape != margins.shape[1:]
        or margin_range.dtype != np.float16
    ):
        raise ValueError(
            f"margins must be (C, h, w) uint8 and margin_range (h, w) float16, got {margins.shape} "
            f"{margins.dtype} and {margin_range.shape} {margin_range.dtype}; pass one image at a time"
        )
    check_size(image_hw[1], image_hw[0])
    return strip_classes(margins, margin_range, *tiles(axis_sizes(margins.shape[1:], image_hw)))


def strip_classes(
    margins: NDArray[np.uint8],
    margin_range: NDArray[np.float16],
    rows: Sequence[Strip],
    columns: Sequence[Strip],
) -> NDArray[np.uint8]:
    """Do what `class_map` does, (C, h, w) to (H, W), for some rows of tiles, see `seg.strip_classes`."""
    largest = float32_planes(margin_range[None])[0]

    def winners(row: Strip, some: Sequence[Strip]) -> NDArray[np.uint8]:
        cells = slice(some[0].source.start, max(tile.source.stop for tile in some))
        planes = SHARES[margins[:, row.source, cells]]
        planes *= -largest[row.source, cells]
        return leaders(
            interpolated(planes, moved(row, row.source.start), [moved(tile, cells.start) for tile in some])
        )

    return tiled_classes(leaders(np.invert(plane) for plane in margins), rows, columns, winners)


def finish(
    margins: NDArray[np.uint8],
    margin_range: NDArray[np.float16],
    finish_hw: NDArray[np.int32],
    _settings: StepSettings,
) -> tuple[NDArray[np.uint8]]:
    """Do what the ensemble's last step does: (1, C, h, w), (1, h, w) and the image's size to (H, W) ids."""
    height, width = finish_hw.tolist()
    return (class_map(margins[0], margin_range[0], (height, width)),)
