"""Person boxes to crops of the network's shape, and points of a crop back to the image.

A crop is a region of the image: center x, y and scale w, h in pixels. Positions follow UDP ("unbiased data
processing"): a grid of W columns divides the region's width into W - 1 steps, so that its first and last
column lie on the region's edges, be it the grid of the network's input or of its heatmaps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.contract.limits import LIMITS
from sapiens_core.contract.metrics import RefusedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PADDING = 1.25  # side of the crop per side of the box
MIN_BBOX_SIDE = 1.0
# OpenCV warps with 21 bits for whole pixels. Crops of boxes within this stay inside.
MAX_BBOX_COORDINATE = 4.0 * LIMITS.max_image_side
_OUTSIDE_ADVICE = "leave it out, or send the image that it belongs to"


def person_bboxes(
    bboxes: NDArray[np.float32] | None, image_hw: tuple[int, int], *, max_bboxes: int
) -> NDArray[np.float32]:
    """Check the boxes of persons; without boxes, take the whole image as one.

    Args:
        bboxes: (N, 4) float32, xyxy, image pixels; may reach beyond the image. None: there are no boxes.
        image_hw: Height and width of the image.
        max_bboxes: Largest N.

    Returns:
        (N, 4) float32, xyxy, image pixels: the boxes as they were, or one of the image's size.

    Raises:
        ValueError: `bboxes` is not (N, 4), there are none or more than `max_bboxes`, or one of them is not
            finite, far away, smaller than a pixel, or outside the image.
    """
    height, width = image_hw
    if bboxes is None:
        return np.array([[0, 0, width, height]], dtype=np.float32)
    bboxes = checked_bboxes(bboxes, max_bboxes=max_bboxes, image=f"the image of {width} x {height} pixels")
    _refuse(
        bboxes,
        (bboxes[:, :2] >= (width, height)).any(axis=1),
        f"bboxes must overlap the image of {width} x {height} pixels",
        _OUTSIDE_ADVICE,
    )
    return bboxes


def checked_bboxes(
    bboxes: NDArray[np.float32], *, max_bboxes: int, image: str = "the image, which begins at 0, 0"
) -> NDArray[np.float32]:
    """Check the boxes of persons as far as that is possible without the image.

    Args:
        bboxes: (N, 4) float32, xyxy, image pixels; may reach beyond the image.
        max_bboxes: Largest N.
        image: What messages call the image.

    Raises:
        ValueError: `bboxes` is not (N, 4), there are none or more than `max_bboxes`, or one of them is not
            finite, far away, smaller than a pixel, or left of or above every image.
    """
    if bboxes.ndim != 2 or bboxes.shape[1] != 4:
        raise RefusedError(
            f"bboxes must be (N, 4), got shape {bboxes.shape}; pass x1, y1, x2, y2 per person", "boxes"
        )
    if not 1 <= len(bboxes) <= max_bboxes:
        raise RefusedError(
            f"bboxes must be 1 to {max_bboxes} per request, got {len(bboxes)}; split them over several "
            "requests, or leave bboxes out to use the whole image",
            "boxes",
        )
    _refuse(
        bboxes,
        ~(np.abs(bboxes) <= MAX_BBOX_COORDINATE).all(axis=1),
        f"bboxes must be finite and within {MAX_BBOX_COORDINATE:.0f} pixels of the origin",
        "pass image pixels",
    )
    bboxes = bboxes.astype(np.float32)
    _refuse(
        bboxes,
        (bboxes[:, 2:] - bboxes[:, :2] < MIN_BBOX_SIDE).any(axis=1),
        "bboxes must be x1, y1, x2, y2 with sides of at least one pixel",
        "order the corners, and multiply relative coordinates by the image's size",
    )
    _refuse(bboxes, (bboxes[:, 2:] <= 0).any(axis=1), f"bboxes must overlap {image}", _OUTSIDE_ADVICE)
    return bboxes


def person_crops(bboxes: NDArray[np.float32], aspect_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Enlarge boxes by a quarter and then to an aspect ratio, around their centers.

    Args:
        bboxes: (N, 4) float32, xyxy, image pixels.
        aspect_hw: Height and width that the ratio is taken from: the network's input.

    Returns:
        (N, 4) float32, center x, y and scale w, h, image pixels; not clipped to the image.

    Source: Sapiens `GetBBoxCenterScale` and `TopdownAffine`. Its lite demo takes the image's ratio instead.
    """
    height, width = aspect_hw
    corners = bboxes.astype(np.float32).reshape(-1, 2, 2)
    center = (corners[:, 0] + corners[:, 1]) * np.float32(0.5)
    w, h = ((corners[:, 1] - corners[:, 0]) * np.float32(PADDING)).T
    ratio = np.float32(width / height)
    is_wide = w > h * ratio
    scale = np.stack([np.where(is_wide, w, h * ratio), np.where(is_wide, w / ratio, h)], axis=1)
    return np.concatenate([center, scale], axis=1)


def udp_matrices(crops: NDArray[np.float32], grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Compute the affine maps from the image to the crops' grids.

    Args:
        crops: (N, 4) float32, center x, y and scale w, h, image pixels.
        grid_hw: Height and width of the grid.

    Returns:
        (N, 2, 3) float32: a matrix times (x, y, 1) in image pixels is the column and row in the grid.

    Source: Sapiens `get_udp_warp_matrix` without rotation, in float64 and stored as float32 like there.
    """
    center, scale = np.split(crops.astype(np.float64), 2, axis=1)
    zoom = _steps(grid_hw) / scale
    matrices = np.zeros((len(crops), 2, 3), dtype=np.float32)
    matrices[:, (0, 1), (0, 1)] = zoom
    matrices[:, :, 2] = zoom * (0.5 * scale - center)
    return matrices


def image_points(
    points: NDArray[np.float32] | NDArray[np.float64], crops: NDArray[np.float32], grid_hw: tuple[int, int]
) -> NDArray[np.float64]:
    """Map points of the crops' grids to the image.

    Args:
        points: (N, K, 2) float32 or float64, x and y, cells of the grid.
        crops: (N, 4) float32, center x, y and scale w, h, image pixels.
        grid_hw: Height and width of the grid: of the network's input, or of its heatmaps.

    Returns:
        (N, K, 2) float64, x and y, image pixels.

    Source: Sapiens `UDPHeatmap.decode` and `add_pred_to_datasample` in one; the size of the network's input,
    by which the first multiplies and the second divides, cancels.
    """
    center, scale = np.split(crops.astype(np.float64)[:, None], 2, axis=2)
    located: NDArray[np.float64] = points / _steps(grid_hw) * scale + center - scale / 2
    return located


def _steps(grid_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Return the steps of a grid along x and y."""
    return np.array(grid_hw[::-1], dtype=np.float64) - 1


def _refuse(bboxes: NDArray[np.float32], is_bad: NDArray[np.bool_], rule: str, advice: str) -> None:
    if is_bad.any():
        index = int(is_bad.argmax())
        raise RefusedError(f"{rule}, got {bboxes[index].tolist()} at index {index}; {advice}", "boxes")
