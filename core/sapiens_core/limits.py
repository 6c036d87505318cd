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
