"""Surface normals at head resolution to unit normals at image size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.contract.limits import check_size
from sapiens_core.finish.bilinear import axis_sizes, interpolated, strips
from sapiens_core.finish.depth import LENGTH_EPSILON
from sapiens_core.finish.letterbox import content_of, image_of
from sapiens_core.images.opencv import magnitude, merged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings

ROWS_AT_ONCE = 64
COLUMN_WIDTH = 32
LEAST_LENGTH = np.float32(1e-8)  # by which the second family divides a shorter vector


def unit_normals(
    normal_map: NDArray[np.float32], network_hw: tuple[int, int] | None, image_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Resize the network's normals to the size of the image and scale them to unit length.

    Args:
        normal_map: (3, h, w) float32, the network's output: x, y, z of any length.
        network_hw: Height and width of the network's input, through which the reference interpolates. None:
            as its lite demos do, from the head straight to the image.
        image_hw: Height and width of the image.

    Returns:
        (H, W, 3) float32, unit vectors x, y, z in the frame of the network's training data. All that the
        reference tells of it: mirroring an image left to right negates x, and pictures show x, y, z as red,
        green and blue. It need not be the frame of `normals_from_depth`.

    Raises:
        ValueError: `normal_map` is not (3, h, w) float32, or there are no images of that size.

    Source: Sapiens `predict_by_feat`, `postprocess_result` and `vis_normal`: bilinear, half-pixel centres, no
    antialiasing, then n / (|n| + 1e-5).
    """
    if normal_map.ndim != 3 or len(normal_map) != 3 or normal_map.dtype != np.float32:
        raise ValueError(
            f"normal_map must be (3, h, w) float32, got {normal_map.shape} {normal_map.dtype}; "
            "pass one image at a time"
        )
    check_size(image_hw[1], image_hw[0])
    heights, widths = axis_sizes(normal_map.shape[1:], network_hw, image_hw)
    columns = strips(widths, COLUMN_WIDTH)
    normals = np.empty((*image_hw, 3), dtype=np.float32)
    for row in strips(heights, ROWS_AT_ONCE):
        xyz = interpolated(normal_map, row, columns)
        xyz /= magnitude(magnitude(xyz[0], xyz[1]), xyz[2]) + LENGTH_EPSILON
        merged(list(xyz), out=normals[row.target])
    return normals


def finish(
    normal_map: NDArray[np.float32], finish_hw: NDArray[np.int32], settings: StepSettings
) -> tuple[NDArray[np.float32]]:
    """Do what the ensemble's last step does: (1, 3, h, w) and the image's size to (H, W, 3) unit normals."""
    height, width = finish_hw.tolist()
    return (unit_normals(normal_map[0], settings.between_hw, (height, width)),)


def letterboxed_normals(
    normal_map: NDArray[np.float32], network_hw: tuple[int, int], image_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Scale the second family's normals to unit length and resize them to the size of the image.

    Args:
        normal_map: (3, h, w) float32, the network's output: x, y, z of any length.
        network_hw: Height and width of the network's input.
        image_hw: Height and width of the image.

    Returns:
        (H, W, 3) float32, x, y, z in the frame of the camera. They are as long as the interpolation leaves
        them: 1 on flat surfaces, less at edges.

    Raises:
        ValueError: `normal_map` has another shape or type, or there are no images of that size.

    Source: Sapiens2 normal demo: n / max(|n|, 1e-8), padding cut off, bilinear, half-pixel centres, no
    antialiasing, not scaled again.
    """
    inside = content_of(normal_map, network_hw, image_hw)
    x, y, z = (np.ascontiguousarray(plane) for plane in inside)
    length = np.maximum(magnitude(magnitude(x, y), z), LEAST_LENGTH)
    return image_of(np.stack([x / length, y / length, z / length]), image_hw)


def finish_letterboxed(
    normal_map: NDArray[np.float32], finish_hw: NDArray[np.int32], settings: StepSettings
) -> tuple[NDArray[np.float32]]:
    """Do that for the second family: (1, 3, h, w) and the image's size to (H, W, 3) normals."""
    height, width = finish_hw.tolist()
    return (letterboxed_normals(normal_map[0], settings.network_hw, (height, width)),)
