"""Photographs from files, and regions of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read_photograph(path: Path) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB.

    Raises:
        ValueError: OpenCV reads no image there.
    """
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f"{path} must be an image file, and OpenCV finds none there; give another path")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def read_photographs(folder: Path | None) -> list[NDArray[np.uint8]]:
    """Return (H, W, 3) uint8 RGB images for backgrounds and cloth; see the README for whose may be used."""
    return [read_photograph(path) for path in sorted(folder.iterdir())] if folder else []


def region_matrix(bbox: tuple[float, ...], grid_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Return (2, 3) the map of pixel centres in `bbox`, xyxy of pixel corners, to those of a grid."""
    left, top, right, bottom = bbox
    scale_x, scale_y = grid_hw[1] / (right - left), grid_hw[0] / (bottom - top)
    return np.array(
        [
            [scale_x, 0, (0.5 - left) * scale_x - 0.5],
            [0, scale_y, (0.5 - top) * scale_y - 0.5],
        ]
    )
