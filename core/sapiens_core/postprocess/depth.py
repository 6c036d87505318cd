"""Relative depth at network size to relative depth at image size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def image_depth(depth_map: NDArray[np.float32], image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Resize relative depth to the size of the image.

    Args:
        depth_map: (h, w) float32, the network's output; larger is farther, no unit.
        image_hw: Height and width of the image.

    Returns:
        (H, W) float32, same scale as `depth_map`.

    Raises:
        ValueError: `depth_map` is not (h, w) float32.

    Source: Sapiens `postprocess_result`: bilinear, half-pixel centres, no antialiasing.
    """
    if depth_map.ndim != 2 or depth_map.dtype != np.float32:
        raise ValueError(
            f"depth_map must be (h, w) float32, got {depth_map.shape} {depth_map.dtype}; "
            "pass one image at a time"
        )
    height, width = image_hw
    return cv2.resize(depth_map, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
