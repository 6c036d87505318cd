"""What the header of an image file says, and whether it is within the limits; no pixel is touched."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from sapiens_core.contract.limits import IMAGE_FORMATS, LIMITS, check_size, max_image_pixels
from sapiens_core.contract.metrics import RefusedError
from sapiens_core.images.bmp import BmpHeader, bmp_header
from sapiens_core.images.orientation import UPRIGHT, jpeg_orientation, known_orientation, png_orientation
from sapiens_core.images.reader import opened
from sapiens_core.images.tiff import TiffHeader, tiff_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_SHOWN_BYTES = 12
_MAX_PNG_CHUNKS = 2**17  # writers make chunks of 8 KB or more
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNK_FRAME_BYTES = 12  # length, name and checksum around the content
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_SIGNATURE = b"\xff\xd8"
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_BITS = 8


@dataclass(frozen=True)
class ImageHeader:
    """What the first bytes of an image file say.

    Attributes:
        width: Pixels in a row, before any turning.
        height: Rows.
        orientation: By which decoded pixels are still to be turned.
        bmp: The header of a BMP.
        tiff: The first directory of a TIFF.
    """

    width: int
    height: int
    orientation: int = UPRIGHT
    bmp: BmpHeader | None = None
    tiff: TiffHeader | None = None


def num_pixels(encoded: NDArray[np.uint8]) -> int:
    """Return how many pixels an image file claims to have, from its header alone.

    Args:
        encoded: uint8 of shape (B,), the bytes of the file.

    Raises:
        ValueError: It is of none of the formats, has too many pixels, or its header is damaged.
    """
    header = _header(encoded)
    check_size(header.width, header.height)
    return header.width * header.height


def checked_header(encoded: NDArray[np.uint8]) -> ImageHeader:
    """Check what the header of an image file says.

    Args:
        encoded: uint8 of shape (B,), the bytes of the file.

    Raises:
        ValueError: The file is empty, too large, of another format, has too many pixels, or is damaged.
    """
    if encoded.size == 0:
        raise RefusedError("image is empty (0 bytes); send the bytes of an image file", "incomplete")
    if encoded.size > LIMITS.max_image_bytes:
        raise RefusedError(
            f"image must have at most {LIMITS.max_image_bytes} bytes, got {encoded.size}; "
            "send it as JPEG or smaller",
            "too_large",
        )
    header = _header(encoded)
    check_size(header.width, header.height)
    return header


def _header(encoded: NDArray[np.uint8]) -> ImageHeader:
    start = encoded[:_MAX_SHOWN_BYTES].tobytes()
    if start.startswith(b"BM"):
        bmp = bmp_header(encoded)
        return ImageHeader(bmp.width, bmp.height, bmp=bmp)
    if start.startswith(_TIFF_SIGNATURES):
        tiff = tiff_header(encoded)
        return ImageHeader(tiff.width, tiff.height, tiff=tiff)
    try:
        with Image.open(opened(encoded), formats=IMAGE_FORMATS) as image:
            return ImageHeader(*image.size, orientation=_orientation(image, encoded))
    except UnidentifiedImageError as error:
        if start.startswith(_JPEG_SIGNATURE):
            _check_jpeg_bits(encoded)
        raise RefusedError(
            f"image must be a {', '.join(IMAGE_FORMATS)} file, got {encoded.size} bytes starting with "
            f"{start!r}; send a complete file of one of these formats",
            "format",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # where that is an error
        raise RefusedError(
            f"image must have at most {max_image_pixels()} pixels: {error}", "too_large"
        ) from error
    except (OSError, SyntaxError, TypeError) as error:
        raise ValueError(f"image header is damaged: {error}; send the complete file") from error


def _orientation(image: Image.Image, encoded: NDArray[np.uint8]) -> int:
    if image.format == "PNG":
        return png_orientation(_png_chunks(encoded))
    if image.format == "WEBP":
        exif, xmp = image.info.get("exif", b""), image.info.get("xmp", b"")
        return known_orientation(exif, [xmp])
    return jpeg_orientation(image.applist)  # type: ignore[attr-defined]


def _png_chunks(encoded: NDArray[np.uint8]) -> Iterator[tuple[bytes, bytes]]:
    """Tell the chunks up to the last one, those of pixels without content.

    OpenCV takes the memory that a chunk claims before it reads the chunk.
    """
    start = len(_PNG_SIGNATURE)
    for _ in range(_MAX_PNG_CHUNKS):
        if start + _PNG_CHUNK_FRAME_BYTES > encoded.size:
            return
        length, name = struct.unpack(">I4s", encoded[start : start + 8].tobytes())
        if start + _PNG_CHUNK_FRAME_BYTES + length > encoded.size:
            raise ValueError(
                f"PNG chunk {name!r} claims {length} bytes at offset {start} of {encoded.size}; "
                "send the complete file"
            )
        yield name, b"" if name == b"IDAT" else encoded[start + 8 :][:length].tobytes()
        if name == b"IEND":
            return
        start += _PNG_CHUNK_FRAME_BYTES + length
    raise ValueError(f"PNG must have at most {_MAX_PNG_CHUNKS} chunks, got more; save it again")


def _check_jpeg_bits(encoded: NDArray[np.uint8]) -> None:
    """Name what a JPEG has that is not read, if it is that."""
    start = len(_JPEG_SIGNATURE)
    while start + 5 <= encoded.size and encoded[start] == 0xFF:
        marker, length, bits = struct.unpack(">xBHB", encoded[start : start + 5].tobytes())
        if marker in _JPEG_FRAMES:
            if bits != _JPEG_BITS:
                raise ValueError(
                    f"JPEG must have 8 bits a sample, got {bits} bits; save it again as 16-bit PNG or TIFF"
                )
            return
        start += 2 + length
