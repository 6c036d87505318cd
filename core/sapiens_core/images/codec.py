"""Encoded image files to pixels, with the limits checked before memory is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.contract.metrics import RefusedError
from sapiens_core.images.bmp import decode_masked
from sapiens_core.images.header import checked_header
from sapiens_core.images.opencv import decoded_bgr, swapped_colours
from sapiens_core.images.orientation import upright
from sapiens_core.images.tiff import tiff_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray


def decode_bgr(encoded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decode an image file the way the reference's `cv2.imread` does.

    EXIF orientation is applied, alpha dropped, grey becomes colour, 16 bit becomes 8, CMYK becomes RGB. A
    truncated file is refused, never filled up.

    Args:
        encoded: uint8 of shape (B,), the bytes of a JPEG, PNG, WebP, BMP or TIFF file.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        RefusedError: `encoded` is empty, too large, of another format, has too many pixels, or is damaged.
    """
    try:
        return _decoded_bgr(encoded)
    except RefusedError:
        raise
    except ValueError as error:
        raise RefusedError(str(error), "damaged") from error


def _decoded_bgr(encoded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if encoded.ndim != 1 or encoded.dtype != np.uint8 or not encoded.flags.c_contiguous:
        raise ValueError(
            f"encoded image must be (B,) uint8 in one piece, got {encoded.shape} {encoded.dtype}; "
            "pass the file's bytes"
        )
    header = checked_header(encoded)
    if header.tiff:
        return swapped_colours(tiff_pixels(encoded, header.tiff))
    if header.bmp and header.bmp.is_masked:
        return decode_masked(encoded, header.bmp)
    image = decoded_bgr(encoded)
    if image is None:
        raise ValueError(
            f"image of {encoded.size} bytes is truncated or damaged, or not of 8 or 16 bits a pixel; "
            "send the complete file"
        )
    return upright(image, header.orientation)
