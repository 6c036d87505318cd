"""Depth as seen by a camera to points before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unprojected(depth: NDArray[np.float32], intrinsics: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the points that pixels of known depth show.

    Args:
        depth: (H, W) float32, along the axis of the camera.
        intrinsics: (3, 3), the camera: times a point it is (x, y, 1) times z, pixels whose centers are whole
            numbers, as in OpenCV.

    Returns:
        (H, W, 3) float32, in the unit of the depth and the frame of the camera: x to the right of the image,
        y down, z away from the camera. NaN where the depth is.

    Raises:
        ValueError: `intrinsics` are those of no camera.
    """
    _check(intrinsics)
    rays = np.linalg.inv(intrinsics)
    height, width = depth.shape
    columns, rows = np.arange(width), np.arange(height)[:, None]
    points = np.empty((height, width, 3), np.float32)
    for axis in range(2):
        points[..., axis] = (rays[axis, 0] * columns + rays[axis, 1] * rows + rays[axis, 2]) * depth
    points[..., 2] = depth
    return points


def _check(intrinsics: NDArray[np.float64]) -> None:
    if intrinsics.shape != (3, 3) or not np.isfinite(intrinsics).all():
        raise ValueError(
            f"intrinsics must be (3, 3) finite numbers, got shape {intrinsics.shape}; pass [[f, 0, cx], "
            "[0, f, cy], [0, 0, 1]] in pixels of the image"
        )
    is_camera = intrinsics[0, 0] > 0 and intrinsics[1, 1] > 0 and intrinsics[1, 0] == 0
    if not is_camera or intrinsics[2].tolist() != [0, 0, 1]:
        raise ValueError(
            "intrinsics must be [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] with focal lengths above 0, got "
            f"{intrinsics.tolist()}; do not transpose them"
        )
