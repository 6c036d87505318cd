"""What the header of an image file says, and whether it is within the limits; no pixel is touched."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from sapiens_core.limits import IMAGE_FORMATS, LIMITS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_SHOWN_BYTES = 12
_BMP_HEADER_BYTES = 4096
_EXIF_ORIENTATION = 0x0112
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323
_MAX_PNG_CHUNKS = 2**17  # writers make chunks of 8 KB or more
_PNG_SIGNATURE_BYTES = 8
_PNG_CHUNK_FRAME_BYTES = 12  # length, name and checksum around the content


@dataclass(frozen=True)
class _Header:
    """What the first bytes of an image file say.

    Attributes:
        width: Pixels in a row, before any turning.
        height: Rows.
        tile_wh: Width and height of a TIFF's tiles.
        orientation: The EXIF orientation if it is left to us, else 1.
        is_png: The file is a PNG.
    """

    width: int
    height: int
    tile_wh: tuple[int, int]
    orientation: int
    is_png: bool


def num_pixels(encoded: NDArray[np.uint8]) -> int:
    """Return how many pixels an image file claims to have, from its header alone.

    Args:
        encoded: (B,) uint8, the bytes of the file.

    Raises:
        ValueError: It is of none of the formats, has too many pixels, or its header is damaged.
    """
    header = _header(encoded)
    check_size(header.width, header.height)
    return header.width * header.height


def _header(encoded: NDArray[np.uint8]) -> _Header:
    try:
        with Image.open(_header_file(encoded), formats=IMAGE_FORMATS) as header:
            return _Header(
                *header.size,
                tile_wh=_tiff_tile(header) if header.format == "TIFF" else (1, 1),
                orientation=_webp_orientation(header) if header.format == "WEBP" else 1,
                is_png=header.format == "PNG",
            )
    except UnidentifiedImageError as error:
        start = encoded[:_MAX_SHOWN_BYTES].tobytes()
        raise ValueError(
            f"image must be a {', '.join(IMAGE_FORMATS)} file, got {encoded.size} bytes starting with "
            f"{start!r}; send a complete file of one of these formats"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # where that is an error
        raise ValueError(f"image must have at most {LIMITS.max_image_pixels} pixels: {error}") from error
    except (OSError, ValueError, SyntaxError, TypeError) as error:
        raise ValueError(f"image header is damaged: {error}; send the complete file") from error


def checked_orientation(encoded: NDArray[np.uint8]) -> int:
    """Check what the header of an image file says.

    Args:
        encoded: (B,) uint8, the bytes of the file.

    Returns:
        The EXIF orientation if decoding leaves it to us, else 1.

    Raises:
        ValueError: The file is empty, too large, of another format, has too many pixels, or is damaged.
    """
    if encoded.size == 0:
        raise ValueError("image is empty (0 bytes); send the bytes of an image file")
    if encoded.size > LIMITS.max_image_bytes:
        raise ValueError(
            f"image must have at most {LIMITS.max_image_bytes} bytes, got {encoded.size}; "
            "send it as JPEG or smaller"
        )
    header = _header(encoded)
    check_size(header.width, header.height)
    check_size(*header.tile_wh)  # OpenCV takes the memory of a whole tile
    if header.is_png:
        _check_png_chunks(encoded)
    return header.orientation


def _header_file(encoded: NDArray[np.uint8]) -> io.BytesIO:
    """Wrap the bytes for Pillow; BMPs, which are large, only as far as their header reaches."""
    return io.BytesIO((encoded[:_BMP_HEADER_BYTES] if encoded[:2].tobytes() == b"BM" else encoded).data)


def _tiff_tile(header: Image.Image) -> tuple[int, int]:
    tags = header.tag_v2  # type: ignore[attr-defined]
    return tags.get(_TIFF_TILE_WIDTH, 1), tags.get(_TIFF_TILE_LENGTH, 1)


def _webp_orientation(header: Image.Image) -> int:
    """Return the EXIF orientation. OpenCV applies it itself to the other formats, but not always to WebP."""
    try:
        orientation = header.getexif().get(_EXIF_ORIENTATION, 1)
    except SyntaxError:  # damaged EXIF is no EXIF, as in the other formats
        return 1
    return orientation if orientation in range(1, 9) else 1


def _check_png_chunks(encoded: NDArray[np.uint8]) -> None:
    """OpenCV takes the memory that a chunk claims before it reads the chunk."""
    start = _PNG_SIGNATURE_BYTES
    for _ in range(_MAX_PNG_CHUNKS):
        if start + _PNG_CHUNK_FRAME_BYTES > encoded.size:
            return
        length = int.from_bytes(encoded[start : start + 4].tobytes(), "big")
        if start + _PNG_CHUNK_FRAME_BYTES + length > encoded.size:
            name = encoded[start + 4 : start + 8].tobytes()
            raise ValueError(
                f"PNG chunk {name!r} claims {length} bytes at offset {start} of {encoded.size}; "
                "send the complete file"
            )
        start += _PNG_CHUNK_FRAME_BYTES + length
    raise ValueError(f"PNG must have at most {_MAX_PNG_CHUNKS} chunks, got more; save it again")


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
