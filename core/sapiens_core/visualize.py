"""Results as pictures for people, in the colours of the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKGROUND_GREY = 100


def depth_picture(
    depth: NDArray[np.float32], foreground: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Colour relative depth with OpenCV's inferno: near is bright, far is dark.

    Args:
        depth: (H, W) float32; larger is farther.
        foreground: (H, W) bool; the colours span the depths inside it, the rest becomes grey. Default: all.

    Returns:
        (H, W, 3) uint8, RGB. Constant depth, whose span is empty, is all near.

    Raises:
        ValueError: `depth` is not (H, W), or `foreground` has another shape.

    Source: Sapiens `vis_depth`, which divides by zero where the depth is constant.
    """
    if depth.ndim != 2:
        raise ValueError(f"depth must be (H, W), got shape {depth.shape}; pass one image at a time")
    if foreground is None:
        foreground = np.ones(depth.shape, dtype=bool)
    elif foreground.shape != depth.shape:
        raise ValueError(
            f"foreground must be {depth.shape} like depth, got {foreground.shape}; resize it to the image"
        )
    picture = np.full((*depth.shape, 3), BACKGROUND_GREY, dtype=np.uint8)
    inside = depth[foreground]
    if inside.size:
        nearest, farthest = inside.min(), inside.max()
        span = farthest - nearest
        nearness = 1 - (inside - nearest) / (span if span > 0 else 1)
        colors = cv2.applyColorMap((nearness * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
        picture[foreground] = colors[:, 0, ::-1]
    return picture
