"""Maps of a network whose images stand in the middle of its input: the padding cut off, the rest resized."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.contract.limits import check_size
from sapiens_core.finish.bilinear import interpolated, strips
from sapiens_core.images.opencv import merged
from sapiens_core.prepare.letterbox import centered_content

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS_AT_ONCE = 64
COLUMN_WIDTH = 32


def content_of(
    planes: NDArray[np.float32], network_hw: tuple[int, int], image_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Cut the padding off a network's map.

    Args:
        planes: (C, h, w) float32, as large as the network's input.
        network_hw: Height and width of the network's input.
        image_hw: Height and width of the image.

    Returns:
        (C, ...) float32, a view of the part that the image covers.

    Raises:
        ValueError: `planes` is not (C, h, w) float32 of that size, or there are no images of that size.
    """
    if planes.ndim != 3 or planes.shape[1:] != network_hw or planes.dtype != np.float32:
        raise ValueError(
            f"map must be (C, {network_hw[0]}, {network_hw[1]}) float32, the network's input size, got "
            f"{planes.shape} {planes.dtype}; pass one image at a time"
        )
    check_size(image_hw[1], image_hw[0])
    content = centered_content(image_hw, network_hw)
    return planes[:, content.rows, content.columns]


def image_of(planes: NDArray[np.float32], image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Resize planes to the size of the image.

    Args:
        planes: (C, h, w) float32, which all of the image covers.
        image_hw: H and W.

    Returns:
        (H, W, C) float32; (H, W) where C is 1.

    Source: Sapiens2 demos: bilinear, half-pixel centres, no antialiasing, float32.
    """
    heights, widths = zip(planes.shape[1:], image_hw, strict=True)
    columns = strips(widths, COLUMN_WIDTH)
    channels = () if len(planes) == 1 else (len(planes),)
    image = np.empty((*image_hw, *channels), dtype=np.float32)
    for row in strips(heights, ROWS_AT_ONCE):
        found = interpolated(planes, row, columns)
        if channels:
            merged(list(found), out=image[row.target])
        else:
            image[row.target] = found[0]
    return image
