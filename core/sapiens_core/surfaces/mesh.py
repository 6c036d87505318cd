"""Points of pixels to triangles between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def triangles(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], edge_tolerance: float
) -> NDArray[np.int32]:
    """Join neighbouring pixels where they show one surface.

    Args:
        depth: (H, W) float32, positive where valid.
        valid: (H, W) bool, which pixels are points.
        edge_tolerance: By how much the farthest corner of a triangle may be farther than its nearest one,
            relative to that: 0.04 is 8 cm at 2 m. Else there is an edge between two surfaces.

    Returns:
        (T, 3) int32, corners counterclockwise for the camera; they count the valid pixels, row by row.

    Raises:
        ValueError: The tolerance is no number above 0.
    """
    if not edge_tolerance > 0:
        raise ValueError(f"edge_tolerance must be above 0, got {edge_tolerance!r}; 0.04 is usual")
    numbers = (np.cumsum(valid, dtype=np.int32) - 1).reshape(valid.shape)
    corners = {
        (down, right): (slice(down, down - 1 or None), slice(right, right - 1 or None))
        for down in (0, 1)
        for right in (0, 1)
    }
    upper, lower = ((0, 0), (1, 0), (0, 1)), ((0, 1), (1, 0), (1, 1))
    chosen = []
    for triangle in (upper, lower):
        places = [corners[corner] for corner in triangle]
        is_one = np.logical_and.reduce([valid[place] for place in places])
        depths = np.stack([depth[place][is_one] for place in places])
        is_flat = depths.max(axis=0) <= depths.min(axis=0) * (1 + np.float32(edge_tolerance))
        chosen.append(np.stack([numbers[place][is_one][is_flat] for place in places], axis=1))
    return np.concatenate(chosen)
