"""What one request may contain, and in which formats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one request may contain; checked before memory is taken.

    Attributes:
        max_image_bytes: Size of an encoded image.
        max_image_pixels: Width x height, read from the header before decoding.
        max_image_side: Longest side in pixels; OpenCV's warps address less than 2**15 of them.
        max_bboxes: Boxes of one call of the client, which sends them in batches.
    """

    max_image_bytes: int = 256 * 2**20
    max_image_pixels: int = 2**26
    max_image_side: int = 2**15 - 2
    max_bboxes: int = 1000


LIMITS = Limits()

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


def check_size(width: int, height: int) -> None:
    """Refuse an image that is too large.

    Raises:
        ValueError: It is, or it has no pixels.
    """
    if min(width, height) < 1:
        raise ValueError(f"image must have at least 1 x 1 pixels, got {width} x {height}")
    if width * height > LIMITS.max_image_pixels or max(width, height) > LIMITS.max_image_side:
        raise ValueError(
            f"image must have at most {LIMITS.max_image_pixels} pixels and sides of at most "
            f"{LIMITS.max_image_side}, got {width} x {height}; scale it down"
        )
