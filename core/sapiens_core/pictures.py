"""Results as pictures for people, in the colours of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sapiens_core.finish.depth import nearness, surface_normals
from sapiens_core.images.opencv import inferno_bgr, swapped_colours, turbo_bgr
from sapiens_core.recipes.sapiens2 import DEPTH_RANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.labels import Color, KeypointSet

BACKGROUND_GREY = 100
BOX_COLOR = (0, 255, 0)
FARTHEST_DRAWN = 2**20


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
        ValueError: `depth` is not (H, W) float32, or `foreground` has another shape.

    Source: Sapiens `vis_depth`, which divides by zero where the depth is constant.
    """
    near = nearness(depth, foreground)
    inside = np.isfinite(near)
    levels = (np.where(inside, near, 0) * 255).astype(np.uint8)
    picture = swapped_colours(inferno_bgr(levels))
    picture[~inside] = BACKGROUND_GREY
    return picture


def pose_picture(
    image: NDArray[np.uint8],
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
    keypoint_set: KeypointSet,
    *,
    threshold: float = 0.3,
    radius: int = 6,
    thickness: int = 3,
) -> NDArray[np.uint8]:
    """Draw keypoints as discs and the skeleton's links as lines.

    Args:
        image: (H, W, 3) uint8, RGB.
        keypoints: (N, K, 2) float32, x and y, image pixels.
        scores: (N, K) float32.
        keypoint_set: Names the links and colours.
        threshold: Keypoints with a lower score are left out, and links that touch them.
        radius: Of the discs, pixels.
        thickness: Of the lines, pixels.

    Returns:
        (H, W, 3) uint8, RGB, a new picture.

    Raises:
        ValueError: The shapes do not fit together.

    Source: Sapiens `vis_pose`, whose scripts choose these sizes.
    """
    num_keypoints = len(keypoint_set.names)
    if keypoints.shape != (len(keypoints), num_keypoints, 2) or scores.shape != keypoints.shape[:2]:
        raise ValueError(
            f"keypoints must be (N, {num_keypoints}, 2) for {keypoint_set.name!r} and scores likewise, "
            f"got {keypoints.shape} and {scores.shape}; choose the set with `keypoint_set_of_size`"
        )
    picture = image.copy()
    for points, confidences in zip(_drawable(keypoints), scores.tolist(), strict=True):
        for point, confidence, color in zip(points, confidences, keypoint_set.colors, strict=True):
            if confidence >= threshold:
                cv2.circle(picture, point, radius, color, thickness=cv2.FILLED)
        for link in keypoint_set.skeleton:
            if min(confidences[link.start], confidences[link.end]) > threshold:
                cv2.line(picture, points[link.start], points[link.end], link.color, thickness)
    return picture


def boxes_picture(
    image: NDArray[np.uint8], bboxes: NDArray[np.float32], scores: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Draw boxes with their scores in percent.

    Args:
        image: (H, W, 3) uint8, RGB.
        bboxes: (N, 4) float32, xyxy, image pixels.
        scores: (N,) float32, 0..1.

    Returns:
        (H, W, 3) uint8, RGB, a new picture.

    Raises:
        ValueError: The shapes do not fit together.
    """
    if bboxes.shape != (len(scores), 4) or scores.ndim != 1:
        raise ValueError(f"bboxes must be (N, 4) and scores (N,), got {bboxes.shape} and {scores.shape}")
    picture = image.copy()
    for (start, end), score in zip(_drawable(bboxes.reshape(-1, 2, 2)), scores, strict=True):
        cv2.rectangle(picture, start, end, BOX_COLOR, thickness=2)
        label_at = start[0] + 4, start[1] + 16
        cv2.putText(picture, f"{score:.0%}", label_at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, BOX_COLOR)
    return picture


def numbers_picture(
    image: NDArray[np.uint8], bboxes: NDArray[np.float32], numbers: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Write the numbers of persons over their boxes, each in a colour of its own.

    Args:
        image: (H, W, 3) uint8, RGB.
        bboxes: (N, 4) float32, xyxy, image pixels.
        numbers: (N,) int64; negative ones are left out.

    Returns:
        (H, W, 3) uint8, RGB, a new picture.

    Raises:
        ValueError: The shapes do not fit together.
    """
    if bboxes.shape != (len(numbers), 4) or numbers.ndim != 1:
        raise ValueError(f"bboxes must be (N, 4) and numbers (N,), got {bboxes.shape} and {numbers.shape}")
    picture = image.copy()
    for (start, _), number in zip(_drawable(bboxes.reshape(-1, 2, 2)), numbers.tolist(), strict=True):
        if number >= 0:
            hue = np.array([[[number * 67 % 180, 200, 255]]], np.uint8)  # neighbours differ
            color = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
            place = start[0] + 4, max(start[1], 0) + 36
            cv2.putText(picture, f"#{number}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, color, 2)
    return picture


def class_picture(
    image: NDArray[np.uint8], class_map: NDArray[np.uint8], palette: Sequence[Color]
) -> NDArray[np.uint8]:
    """Lay the colours of the classes over an image, half and half.

    Args:
        image: (H, W, 3) uint8, RGB.
        class_map: (H, W) uint8 class ids.
        palette: RGB of every class, 0..255.

    Returns:
        (H, W, 3) uint8, RGB, a new picture.

    Raises:
        ValueError: The shapes do not fit together, or a class has no colour.

    Source: Sapiens `vis_seg`, which rounds down.
    """
    if image.shape != (*class_map.shape, 3):
        raise ValueError(
            f"image must be {(*class_map.shape, 3)} to fit class_map, got {image.shape}; resize one of them"
        )
    if class_map.size and class_map.max() >= len(palette):
        raise ValueError(
            f"classes must be below {len(palette)}, the size of the palette, got {class_map.max()}; "
            "choose the palette of the network's classes"
        )
    colors = np.asarray(palette, dtype=np.uint8)[class_map]
    half_difference = np.right_shift(image ^ colors, np.uint8(1))
    return np.add(image & colors, half_difference, dtype=np.uint8)  # their mean, without a ninth bit


def normal_picture(
    normals: NDArray[np.float32], foreground: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Show the x, y and z of normals as red, green and blue: -1 is 0, 1 is 255.

    Args:
        normals: (H, W, 3) float32, unit vectors x, y, z; what is not a number is shown as -1.
        foreground: (H, W) bool; the rest becomes black. Default: all.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: `normals` is not (H, W, 3), or `foreground` has another shape.

    Source: Sapiens `vis_normal`, which rounds down.
    """
    if normals.ndim != 3 or normals.shape[2] != 3:
        raise ValueError(f"normals must be (H, W, 3), got shape {normals.shape}; pass one image at a time")
    if foreground is not None and foreground.shape != normals.shape[:2]:
        raise ValueError(
            f"foreground must be {normals.shape[:2]} like normals, got {foreground.shape}; "
            "resize it to the image"
        )
    levels = normals + np.float32(1)
    levels *= np.float32(127.5)
    np.fmax(levels, 0, out=levels)  # fmax prefers 0 to NaN
    picture = np.fmin(levels, 255, out=levels).astype(np.uint8)
    if foreground is not None:
        picture[~foreground] = 0
    return picture


def depth_normal_picture(
    depth: NDArray[np.float32], foreground: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Show the normals of a depth map, in the colours of `normal_picture`.

    Args:
        depth: (H, W) float32, finite; larger is farther.
        foreground: (H, W) bool; the rest becomes black. Default: all.

    Returns:
        (H, W, 3) uint8, RGB. Within 3 pixels of the foreground's edge normals are unknown: black or blue.

    Raises:
        ValueError: `depth` is not (H, W) float32, or `foreground` has another shape.

    Source: Sapiens `vis_depth`.
    """
    return normal_picture(surface_normals(nearness(depth, foreground)))


def inverse_depth_picture(depth: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Colour inverse depth with OpenCV's turbo: near is red, far is blue.

    Args:
        depth: (H, W) float32, metres.
        inside: (H, W) bool; the colours span the depths inside it, without the nearest and the farthest
            hundredth; the rest becomes grey.

    Returns:
        (H, W, 3) uint8, RGB. Constant depth, whose span is empty, is all red.

    Raises:
        ValueError: The shapes do not fit together.

    Source: Sapiens2 pointmap demo, which looks at one image at a time, too, if it is given one.
    """
    if depth.ndim != 2 or inside.shape != depth.shape:
        raise ValueError(f"depth and inside must be (H, W), got {depth.shape} and {inside.shape}")
    picture = np.full((*depth.shape, 3), BACKGROUND_GREY, np.uint8)
    shown = inside & np.isfinite(depth)
    if not shown.any():
        return picture
    nearest, farthest = np.percentile(depth[shown], (1, 99)).clip(*DEPTH_RANGE)
    lowest, highest = 1 / farthest, 1 / nearest
    inverse = 1 / depth[shown].clip(*DEPTH_RANGE)
    span = highest - lowest
    near = ((inverse - lowest) / span).clip(0, 1) if span > 0 else np.ones_like(inverse)
    levels = np.zeros(depth.shape, np.uint8)
    levels[shown] = near * 255
    picture[shown] = swapped_colours(turbo_bgr(levels))[shown]
    return picture


def cutout_picture(alpha: NDArray[np.float32], foreground: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Make a premultiplied foreground a picture with straight alpha.

    Args:
        alpha: (H, W) float32, 0..1.
        foreground: (H, W, 3) float32, RGB 0..1, premultiplied.

    Returns:
        (H, W, 4) uint8, RGBA; black where alpha is 0.
    """
    colors = np.divide(
        foreground, alpha[..., None], out=np.zeros_like(foreground), where=alpha[..., None] > 0
    )
    return _levels(np.dstack([colors, alpha]))


def composite_picture(
    alpha: NDArray[np.float32], foreground: NDArray[np.float32], background: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Put a premultiplied foreground before a background.

    Args:
        alpha: (H, W) float32, 0..1.
        foreground: (H, W, 3) float32, RGB 0..1, premultiplied.
        background: (H, W, 3) or (3,), RGB 0..255.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: The background is of another size, or its numbers are no colours.

    Source: Sapiens2 matting demo.
    """
    if background.shape not in ((3,), foreground.shape):
        raise ValueError(
            f"background must be (3,) or {foreground.shape} like the image, got {background.shape}; resize it"
        )
    if not np.issubdtype(background.dtype, np.integer) or background.min() < 0 or background.max() > 255:
        raise ValueError(
            f"background must be whole numbers of 0..255, got {background.dtype}; scale it to that"
        )
    behind = background.astype(np.float32) / np.float32(255)
    return _levels(foreground + (1 - alpha[..., None]) * behind)


def albedo_picture(
    albedo: NDArray[np.uint8], foreground: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB colours, grey outside the (H, W) foreground, if there is one.

    Raises:
        ValueError: `foreground` has another shape.
    """
    if foreground is not None and foreground.shape != albedo.shape[:2]:
        raise ValueError(
            f"foreground must be {albedo.shape[:2]} like albedo, got {foreground.shape}; resize it"
        )
    picture = albedo.copy()
    if foreground is not None:
        picture[~foreground] = BACKGROUND_GREY
    return picture


def _levels(shares: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(shares.clip(0, 1) * np.float32(255)).astype(np.uint8)
    return levels


def _drawable(points: NDArray[np.float32]) -> list[list[tuple[int, int]]]:
    """Truncate (N, K, 2) points to whole pixels, as OpenCV takes them, and far ones to where it can draw."""
    whole = np.nan_to_num(points).clip(-FARTHEST_DRAWN, FARTHEST_DRAWN).astype(np.int64)
    return [[(x, y) for x, y in row] for row in whole.tolist()]
