"""Relative depth at network size to relative depth at image size, and on to surface normals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.contract.limits import check_size
from sapiens_core.images.opencv import merged, resized, sobel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings

SOBEL_SIZE = 7
LENGTH_EPSILON = np.float32(1e-5)  # the reference adds it to lengths, so that a zero vector stays zero


def image_depth(depth_map: NDArray[np.float32], image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Resize relative depth to the size of the image.

    Args:
        depth_map: (h, w) float32, the network's output; larger is farther, no unit.
        image_hw: Height and width of the image.

    Returns:
        (H, W) float32, same scale as `depth_map`.

    Raises:
        ValueError: `depth_map` is not (h, w) float32, or there are no images of that size.

    Source: Sapiens `postprocess_result`: bilinear, half-pixel centres, no antialiasing.
    """
    if depth_map.ndim != 2 or depth_map.dtype != np.float32:
        raise ValueError(
            f"depth_map must be (h, w) float32, got {depth_map.shape} {depth_map.dtype}; "
            "pass one image at a time"
        )
    height, width = image_hw
    check_size(width, height)
    return resized(depth_map, image_hw)


def finish(
    depth_map: NDArray[np.float32], finish_hw: NDArray[np.int32], _settings: StepSettings
) -> tuple[NDArray[np.float32]]:
    """Do what the ensemble's last step does: (1, 1, h, w) and the image's size to (H, W) depth."""
    height, width = finish_hw.tolist()
    return (image_depth(depth_map[0, 0], (height, width)),)


def nearness(depth: NDArray[np.float32], foreground: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Turn relative depth around and stretch it over the foreground.

    Args:
        depth: (H, W) float32, finite; larger is farther.
        foreground: (H, W) bool. Default: all.

    Returns:
        (H, W) float32, from 1 at the nearest pixel of the foreground to 0 at the farthest, infinity outside.
        Constant depth, whose span is empty, is all 1.

    Raises:
        ValueError: `depth` is not (H, W) float32, or `foreground` has another shape.

    Source: Sapiens `vis_depth`, which divides by zero where the depth is constant.
    """
    if depth.ndim != 2 or depth.dtype != np.float32:
        raise ValueError(
            f"depth must be (H, W) float32, got {depth.shape} {depth.dtype}; pass one image at a time"
        )
    if foreground is not None and foreground.shape != depth.shape:
        raise ValueError(
            f"foreground must be {depth.shape} like depth, got {foreground.shape}; resize it to the image"
        )
    inside = depth if foreground is None else depth[foreground]
    if inside.size == 0:
        return np.full_like(depth, np.inf)
    nearest = inside.min()
    span = inside.max() - nearest
    near: NDArray[np.float32] = depth - nearest
    near /= span if span > 0 else np.float32(1)
    np.subtract(1, near, out=near)
    if foreground is not None:
        np.copyto(near, np.inf, where=~foreground)
    return near


def surface_normals(near: NDArray[np.float32]) -> NDArray[np.float32]:
    """Differentiate a nearness map into normals, with all that infinity does to them.

    Args:
        near: (H, W) float32; larger is nearer, infinite outside the foreground.

    Returns:
        (H, W, 3) float32, x, y, z as `normals_from_depth` has them where the 7x7 pixels around are finite. In
        other places at least one component is NaN and any other is 0 or NaN.

    Source: Sapiens `vis_depth`: Sobel 7x7, reflected at the image's border, then n / (|n| + 1e-5).
    """
    return merged(_normal_planes(near))


def normals_from_depth(
    depth: NDArray[np.float32], foreground: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Estimate the surface's normals from relative depth at image size.

    Relative depth has no unit, so it is meaningful in which direction a surface leans, but not by how much:
    that depends on the number of pixels and on the range of depth in the foreground.

    Args:
        depth: (H, W) float32, finite; larger is farther.
        foreground: (H, W) bool; the rest of the image, whose depth means nothing, is left out. Default: all.

    Returns:
        (H, W, 3) float32, unit vectors x, y, z that point out of the surface, towards the camera, in the
        frame of the camera: x to the right of the image, y down, z away from the camera, so z is negative.
        All three are NaN where the 7x7 pixels around are not all foreground.

    Raises:
        ValueError: `depth` is not (H, W) float32, or `foreground` has another shape.

    Source: Sapiens `vis_depth`, whose normals in the 3 pixels around the foreground mix NaN and 0.
    """
    planes = _normal_planes(nearness(depth, foreground))
    is_unknown = np.isnan(planes[0] + planes[1])
    for plane in planes:
        np.copyto(plane, np.nan, where=is_unknown)
    return merged(planes)


def _normal_planes(near: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return x, y and z of `surface_normals`, each (H, W)."""
    slope_x = sobel(near, axis=1, size=SOBEL_SIZE)
    slope_y = sobel(near, axis=0, size=SOBEL_SIZE)
    with np.errstate(invalid="ignore"):  # infinity less infinity, and infinity through infinity
        length = slope_x * slope_x
        length += slope_y * slope_y
        length += 1
        np.sqrt(length, out=length)
        length += LENGTH_EPSILON
        np.negative(length, out=length)
        return [slope_x / length, slope_y / length, np.float32(1) / length]
