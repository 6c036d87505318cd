"""A network's canonical points to points in metres at image size, and the camera that sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.finish.letterbox import content_of, image_of
from sapiens_core.images.opencv import merged, smoothed
from sapiens_core.prepare.letterbox import centered_content
from sapiens_core.recipes.sapiens2 import DEPTH_RANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings

_SMOOTHINGS, _TAPS, _SIGMA = 4, 3, 0.8  # before a map is enlarged


def image_points(
    point_map: NDArray[np.float32], scale: float, network_hw: tuple[int, int], image_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Bring the network's points to metres and to the size of the image.

    Args:
        point_map: (3, h, w) float32, the network's output: x, y, z as seen by a camera of the canonical focal
            length.
        scale: The network's other output: the canonical focal length through that of the camera.
        network_hw: Height and width of the network's input.
        image_hw: Height and width of the image.

    Returns:
        (H, W, 3) float32, metres, in the frame of the camera: x to the right of the image, y down, z away
        from the camera. Not finite where the scale is 0 or none.

    Raises:
        ValueError: `point_map` has another shape or type, or there are no images of that size.

    Source: Sapiens2 pointmap demo: divided by the scale, padding cut off, smoothed four times if a side is
    enlarged, then bilinear, half-pixel centres, no antialiasing.
    """
    inside = content_of(point_map, network_hw, image_hw)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        points: NDArray[np.float32] = inside / np.float32(scale)
        if image_hw[0] > points.shape[1] or image_hw[1] > points.shape[2]:
            points = np.ascontiguousarray(_smooth(points))
        return image_of(points, image_hw)


def focal_length(scale: float, network_hw: tuple[int, int], image_hw: tuple[int, int]) -> float:
    """Return the focal length of the camera in pixels of the image; infinite where the scale is 0.

    Args:
        scale: The canonical focal length through that of the camera.
        network_hw: Height and width of the network's input; the canonical focal length is its width.
        image_hw: Height and width of the image.

    Source: derived from the training transform of Sapiens2, see `sapiens_core.recipes.sapiens2.NETWORK_HW`.
    """
    zoom = centered_content(image_hw, network_hw).zoom
    return network_hw[1] / scale / zoom if scale else float("inf")


def camera_matrix(focal_px: float, image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return the (3, 3) float32 intrinsics of a camera that looks through the middle of the image.

    Times a point it is (x, y, 1) times z: pixels, whose centers are whole numbers, as in OpenCV.

    Args:
        focal_px: Focal length, pixels of the image.
        image_hw: Height and width of the image.
    """
    height, width = image_hw
    middle = ((width - 1) / 2, (height - 1) / 2)
    return np.array([[focal_px, 0, middle[0]], [0, focal_px, middle[1]], [0, 0, 1]], dtype=np.float32)


def valid_points(points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (H, W) uint8: 1 where a point of (H, W, 3) is finite and as far away as things can be.

    Source: the limits of the depths that the pointmap demo of Sapiens2 shows, 0.1 m and 250 m.
    """
    nearest, farthest = DEPTH_RANGE
    depths = points[..., 2]
    is_valid = (depths >= nearest) & (depths <= farthest)  # comparisons with NaN are false
    is_valid &= np.isfinite(points[..., 0])
    is_valid &= np.isfinite(points[..., 1])
    return is_valid.view(np.uint8)


def finish(
    point_map: NDArray[np.float32],
    scale: NDArray[np.float32],
    finish_hw: NDArray[np.int32],
    settings: StepSettings,
) -> tuple[
    NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]
]:
    """Do what the ensemble's last step does: (1, 3, h, w), (1, 1) and the image's size to what it returns.

    Returns:
        points: (H, W, 3) float32, see `image_points`.
        scale: (1,) float32.
        focal_length: (1,) float32, see `focal_length`.
        intrinsics: (3, 3) float32, see `camera_matrix`.
        valid: (H, W) uint8, see `valid_points`.
    """
    height, width = finish_hw.tolist()
    factor = float(scale[0, 0])
    focal_px = focal_length(factor, settings.network_hw, (height, width))
    points = image_points(point_map[0], factor, settings.network_hw, (height, width))
    return (
        points,
        scale[0],
        np.array([focal_px], dtype=np.float32),
        camera_matrix(focal_px, (height, width)),
        valid_points(points),
    )


def _smooth(points: NDArray[np.float32]) -> NDArray[np.float32]:
    interleaved = merged([np.ascontiguousarray(plane) for plane in points])
    for _ in range(_SMOOTHINGS):
        interleaved = smoothed(interleaved, _TAPS, _SIGMA)
    return interleaved.transpose(2, 0, 1)
