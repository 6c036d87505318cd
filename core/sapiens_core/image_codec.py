"""Encoded image files to pixels and back, with the limits checked before memory is taken."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sapiens_core.image_header import check_size, checked_orientation

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BMP_HEADER = struct.Struct("<2sIIIIiiHHIIiiII")
_TRANSPOSED_ORIENTATIONS = (5, 6, 7, 8)
_FLIPS_OF_ORIENTATION = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # codes of cv2.flip, after transposing


def decode_bgr(encoded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decode an image file the way the reference's `cv2.imread` does.

    EXIF orientation is applied, alpha dropped, grey becomes colour, 16 bit becomes 8, CMYK becomes RGB. A
    truncated file is refused, never filled up.

    Args:
        encoded: (B,) uint8, the bytes of a JPEG, PNG, WebP, BMP or TIFF file.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ValueError: `encoded` is empty, too large, of another format, has too many pixels, or is damaged.
    """
    if encoded.ndim != 1 or encoded.dtype != np.uint8 or not encoded.flags.c_contiguous:
        raise ValueError(
            f"encoded image must be (B,) uint8 in one piece, got {encoded.shape} {encoded.dtype}; "
            "pass the file's bytes"
        )
    orientation = checked_orientation(encoded)
    try:
        image = cv2.imdecode(
            encoded, cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if orientation > 1 else 0)
        )
    except cv2.error as error:
        raise ValueError(f"image could not be decoded: {error.err}; save it again as PNG or JPEG") from error
    if image is None:
        raise ValueError(
            f"image of {encoded.size} bytes is truncated or damaged, or not of 8 or 16 bits a pixel; "
            "send the complete file"
        )
    return _upright(image, orientation)  # type: ignore[arg-type]


def encode_bmp(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Wrap raw pixels losslessly into a BMP file, with a single copy.

    Args:
        image: (H, W, 3) uint8, RGB.

    Returns:
        (B,) uint8, the bytes of the file.

    Raises:
        ValueError: `image` is not (H, W, 3) uint8, is empty or has too many pixels.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image must be (H, W, 3) uint8 in RGB order, got {image.shape} {image.dtype}; "
            "convert with PIL's convert('RGB') or scale floats to 0..255"
        )
    height, width, _ = image.shape
    check_size(width, height)
    row_bytes = (width * 3 + 3) // 4 * 4
    bmp = np.empty(_BMP_HEADER.size + height * row_bytes, dtype=np.uint8)
    # A negative height says that the first row is the top one.
    sizes = (bmp.size, 0, _BMP_HEADER.size, 40, width, -height, 1, 24, 0, height * row_bytes)
    bmp[: _BMP_HEADER.size] = np.frombuffer(_BMP_HEADER.pack(b"BM", *sizes, 0, 0, 0, 0), dtype=np.uint8)
    rows = bmp[_BMP_HEADER.size :].reshape(height, row_bytes)
    rows[:, 3 * width :] = 0
    pixels = np.lib.stride_tricks.as_strided(rows, image.shape, (row_bytes, 3, 1))
    cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=pixels)
    return bmp


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    turned = cv2.transpose(image) if orientation in _TRANSPOSED_ORIENTATIONS else image
    if orientation in _FLIPS_OF_ORIENTATION:
        turned = cv2.flip(turned, _FLIPS_OF_ORIENTATION[orientation])
    return turned  # type: ignore[return-value]
