"""What one request may contain, and in which formats."""

from __future__ import annotations

from dataclasses import dataclass

from sapiens_core.contract.metrics import RefusedError


@dataclass(frozen=True)
class Limits:
    """What one request may contain; checked before memory is taken.

    Attributes:
        max_image_bytes: Size of an encoded image.
        max_image_pixels: Width x height, read from the header before decoding; an operator may allow less.
        max_image_side: Longest side in pixels; OpenCV's warps address less than 2**15 of them.
        max_bboxes: Boxes of one call of the client, which sends them in batches.
    """

    max_image_bytes: int = 256 * 2**20
    max_image_pixels: int = 2**26
    max_image_side: int = 2**15 - 2
    max_bboxes: int = 1000


LIMITS = Limits()

# Names the variable by which the models' processes get to know what an operator allows.
MAX_PIXELS_VARIABLE = "SAPIENS_MAX_IMAGE_PIXELS"

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


class _Allowed:
    """What this process takes for too many pixels."""

    max_pixels = LIMITS.max_image_pixels


def checked_max_pixels(text: str) -> int:
    """Return how many pixels an operator allows, as `MAX_PIXELS_VARIABLE` has it.

    Raises:
        ValueError: It is no such number.
    """
    number = int(text) if text.strip().isdecimal() else 0
    if not 1 <= number <= LIMITS.max_image_pixels:
        raise ValueError(
            f"the most pixels of an image must be from 1 to {LIMITS.max_image_pixels}, got {text!r}; "
            f"correct --max-image-pixels or {MAX_PIXELS_VARIABLE}"
        )
    return number


def allow_pixels(max_pixels: int) -> None:
    """Make this process refuse images of more pixels."""
    _Allowed.max_pixels = max_pixels


def max_image_pixels() -> int:
    """Return how many pixels an image may have in this process."""
    return _Allowed.max_pixels


def check_size(width: int, height: int) -> None:
    """Refuse an image that is too large.

    Raises:
        RefusedError: It is, or it has no pixels.
    """
    if min(width, height) < 1:
        raise RefusedError(f"image must have at least 1 x 1 pixels, got {width} x {height}", "damaged")
    if width * height > max_image_pixels() or max(width, height) > LIMITS.max_image_side:
        raise RefusedError(
            f"image must have at most {max_image_pixels()} pixels and sides of at most "
            f"{LIMITS.max_image_side}, got {width} x {height}; scale it down",
            "too_large",
        )
