"""BMP files: raw pixels into one, and those out of one that OpenCV reads otherwise than they are meant."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sapiens_core.contract.limits import check_size
from sapiens_core.images.opencv import flipped, swapped_colours

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FILE_HEADER_BYTES = 14
_CORE_HEADER_BYTES = 12
_INFO_HEADER_BYTES = 40
_HEADER = struct.Struct("<2sIIIIiiHHIIiiII")
_RAW, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS = 0, 1, 2, 3, 6
_BITS_OF_RLE = {_RLE8: 8, _RLE4: 4}
_MASKS_AT = _FILE_HEADER_BYTES + _INFO_HEADER_BYTES  # in the longer headers, or behind the short one
_MASKS = {16: (0x7C00, 0x3E0, 0x1F), 32: (0xFF0000, 0xFF00, 0xFF)}
_BITS = (1, 4, 8, 16, 24, 32)
_MAX_BITS = 16  # of one colour; lower ones make no difference in 8


@dataclass(frozen=True)
class BmpHeader:
    """What the headers of a BMP file say.

    Attributes:
        width: Pixels in a row.
        height: Rows.
        bits: Of a pixel.
        is_top_down: The first row is the top one.
        start: Where the pixels begin in the file.
        masks: Which bits of a pixel are its red, green and blue.
    """

    width: int
    height: int
    bits: int
    is_top_down: bool
    start: int
    masks: tuple[int, int, int]

    @property
    def is_masked(self) -> bool:
        """Whether a pixel is a number of 16 or 32 bits, whose masks OpenCV does not heed in all headers."""
        return self.bits in _MASKS


def bmp_header(encoded: NDArray[np.uint8]) -> BmpHeader:
    """Read the headers of a BMP file.

    Args:
        encoded: uint8 of shape (B,), the bytes of the file.

    Raises:
        ValueError: It is too short, or of a kind that nobody reads.
    """
    head = encoded[: _MASKS_AT + 12].tobytes()
    try:
        start, size = struct.unpack_from("<II", head, 10)
        if size != _CORE_HEADER_BYTES and size < _INFO_HEADER_BYTES:
            raise ValueError(
                f"BMP header must have 12 or at least 40 bytes, got {size}; save it again as PNG"
            )
        if size == _CORE_HEADER_BYTES:
            width, height, _, bits = struct.unpack_from("<HHHH", head, 18)
            compression = _RAW
        else:
            width, height, _, bits = struct.unpack_from("<iiHH", head, 18)
            (compression,) = struct.unpack_from("<I", head, 30)
        has_masks = compression in (_BITFIELDS, _ALPHA_BITFIELDS) and bits in _MASKS
        masks = struct.unpack_from("<III", head, _MASKS_AT) if has_masks else (0, 0, 0)
    except struct.error as error:
        raise ValueError(
            f"BMP header is damaged, {encoded.size} bytes are too few; send the complete file"
        ) from error
    is_known = (
        bits == _BITS_OF_RLE.get(compression, bits) if compression in (_RAW, *_BITS_OF_RLE) else has_masks
    )
    if bits not in _BITS or not is_known:
        raise ValueError(
            f"BMP must have 1, 4, 8, 16, 24 or 32 bits a pixel in a known way, got {bits} bits by method "
            f"{compression}; save it again as PNG"
        )
    if any(mask >> bits for mask in masks):
        seen = ", ".join(f"{mask:#x}" for mask in masks)
        raise ValueError(
            f"BMP masks must lie within a pixel of {bits} bits, got {seen}; save it again as PNG"
        )
    if not any(masks):
        masks = _MASKS.get(bits, masks)
    return BmpHeader(width, abs(height), bits, height < 0, start, masks)


def decode_masked(encoded: NDArray[np.uint8], header: BmpHeader) -> NDArray[np.uint8]:
    """Decode a BMP file of 16 or 32 bits a pixel; each colour spans 0 to 255, alpha is dropped.

    Args:
        encoded: uint8 of shape (B,), the bytes of the file.
        header: What its header says, within the limits.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ValueError: The file ends too early.
    """
    row_bytes = (header.width * header.bits + 31) // 32 * 4
    if encoded.size < header.start + header.height * row_bytes:
        raise ValueError(
            f"BMP of {header.width} x {header.height} pixels must have "
            f"{header.start + header.height * row_bytes} bytes, got {encoded.size}; send the complete file"
        )
    rows = encoded[header.start :][: header.height * row_bytes].reshape(header.height, row_bytes)
    kind = np.dtype(f"<u{header.bits // 8}")
    pixels = np.ascontiguousarray(rows[:, : header.width * kind.itemsize]).view(kind)
    image = np.dstack([_levels(pixels, mask) for mask in reversed(header.masks)])
    return image if header.is_top_down else flipped(image, 0)


def _levels(pixels: NDArray[Any], mask: int) -> NDArray[np.uint8]:
    """Return the bits under a mask, stretched over 0 to 255."""
    if not mask:
        return np.zeros(pixels.shape, np.uint8)
    lowest = (mask & -mask).bit_length() - 1
    shift = max(lowest, mask.bit_length() - _MAX_BITS)
    largest = mask >> shift
    table = np.rint(np.arange(largest + 1) * (255 / largest)).astype(np.uint8)
    levels: NDArray[np.uint8] = table[(pixels & pixels.dtype.type(mask)) >> pixels.dtype.type(shift)]
    return levels


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
    bmp = np.empty(_HEADER.size + height * row_bytes, dtype=np.uint8)
    # A negative height says that the first row is the top one.
    sizes = (bmp.size, 0, _HEADER.size, 40, width, -height, 1, 24, 0, height * row_bytes)
    bmp[: _HEADER.size] = np.frombuffer(_HEADER.pack(b"BM", *sizes, 0, 0, 0, 0), dtype=np.uint8)
    rows = bmp[_HEADER.size :].reshape(height, row_bytes)
    rows[:, 3 * width :] = 0
    pixels = np.lib.stride_tricks.as_strided(rows, image.shape, (row_bytes, 3, 1))
    swapped_colours(image, out=pixels)
    return bmp
