"""TIFF files, by Pillow: what it would read wrongly, or refuse without saying why, is looked at first."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, TiffImagePlugin, UnidentifiedImageError

from sapiens_core.contract.limits import check_size
from sapiens_core.images.orientation import known_orientation, upright
from sapiens_core.images.pil_pixels import (
    check_samples,
    compression,
    grey_levels,
    listed,
    rgb_pixels,
    samples,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _NUM_SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR, _PREDICTOR = (
    273,
    277,
    278,
    279,
    284,
    317,
)
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTES, _EXTRA_SAMPLES = 322, 323, 324, 325, 338
_FILL_ORDER, _T4_OPTIONS, _T6_OPTIONS, _JPEG_TABLES = 266, 292, 293, 347
_ORIENTATION, _XMP = 274, 700
_OFFSETS, _SIZES = (_STRIP_OFFSETS, _TILE_OFFSETS), (_STRIP_BYTES, _TILE_BYTES)
_WHITE_IS_0, _BLACK_IS_0, _RGB, _CMYK = 0, 1, 2, 5
_MODES = {_WHITE_IS_0: "L", _BLACK_IS_0: "L", _RGB: "RGB", _CMYK: "CMYK"}
_KEPT_IN_PLANES = (
    _WIDTH,
    _LENGTH,
    _COMPRESSION,
    _FILL_ORDER,
    _ROWS_PER_STRIP,
    _T4_OPTIONS,
    _T6_OPTIONS,
    _PREDICTOR,
    _TILE_WIDTH,
    _TILE_LENGTH,
)
_MAX_INVERTED_BITS = 4  # deeper levels whose white is 0 Pillow does not invert in every order of bits
_PREMULTIPLIED = 1
_APART = 2
_MAGIC, _UINT32, _UNDEFINED = 42, 4, 7
_INLINE_BYTES = 4


@dataclass(frozen=True)
class TiffHeader:
    """What the first directory of a TIFF file says.

    Attributes:
        width: Pixels in a row, before any turning.
        height: Rows.
        tags: All of its tags.
    """

    width: int
    height: int
    tags: TiffImagePlugin.ImageFileDirectory_v2

    @property
    def is_planar(self) -> bool:
        """Whether a colour stands for itself in a way that Pillow does not always read."""
        photometric = self.tags.get(_PHOTOMETRIC)
        is_deep = (samples(self.tags, _BITS) or (1,))[0] > _MAX_INVERTED_BITS
        is_inverse = photometric == _WHITE_IS_0 and self.tags.get(_NUM_SAMPLES, 1) == 1 and is_deep
        return photometric in _MODES and (is_inverse or self.tags.get(_PLANAR) == _APART)


def tiff_header(encoded: NDArray[np.uint8]) -> TiffHeader:
    """Read the first directory of a TIFF file.

    Args:
        encoded: uint8 of shape (B,), the bytes of the file.

    Raises:
        ValueError: It is damaged, or its pixels are of a kind that is not read.
    """
    file = io.BytesIO(encoded.data)
    head = file.read(8)
    try:
        if head[2:3] == b"\x2b" or head[3:4] == b"\x2b":  # BigTIFF
            head += file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)
        header = TiffHeader(int(tags[_WIDTH]), int(tags[_LENGTH]), tags)
        tile_wh = int(tags.get(_TILE_WIDTH, 1)), int(tags.get(_TILE_LENGTH, 1))
    except (OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        raise ValueError(f"TIFF header is damaged: {error}; send the complete file") from error
    check_size(*tile_wh)  # the memory of a whole tile is taken
    check_samples(tags)
    return header


def tiff_pixels(encoded: NDArray[np.uint8], header: TiffHeader) -> NDArray[np.uint8]:
    """Decode a TIFF file.

    Args:
        encoded: uint8 of shape (B,), the bytes of the file.
        header: What its first directory says, within the limits.

    Returns:
        (H, W, 3) uint8, RGB, upright; alpha is dropped, and undone where colours were multiplied by it.

    Raises:
        ValueError: It is damaged, or of a layout that is not read.
    """
    try:
        return _planar_pixels(encoded, header) if header.is_planar else _pixels(encoded.data)
    except UnidentifiedImageError as error:
        photometric, num_samples = header.tags.get(_PHOTOMETRIC), header.tags.get(_NUM_SAMPLES, 1)
        bits = listed(samples(header.tags, _BITS) or (1,))
        fill_order = f", fill order {header.tags[_FILL_ORDER]}" if _FILL_ORDER in header.tags else ""
        raise ValueError(
            f"TIFF must be grey, RGB, CMYK or have a palette, got photometric interpretation {photometric} "
            f"with {num_samples} samples of {bits} bits{fill_order}; save it again as RGB or PNG"
        ) from error
    except (OSError, SyntaxError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        raise ValueError(
            f"TIFF of {encoded.size} bytes with compression {compression(header.tags)} is truncated, damaged "
            f"or of a layout that is not read: {error}; send the complete file, or save it again as PNG"
        ) from error


def _pixels(file: memoryview) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
        return rgb_pixels(image)


def _planar_pixels(encoded: NDArray[np.uint8], header: TiffHeader) -> NDArray[np.uint8]:
    """Read the planes as grey pictures of their own."""
    tags = header.tags
    mode = _MODES[tags[_PHOTOMETRIC]]
    if mode == "RGB" and samples(tags, _EXTRA_SAMPLES)[:1] == (_PREMULTIPLIED,):
        mode = "RGBa"
    file = io.BytesIO(encoded.data)
    planes = [_plane(file, encoded.size, tags, index) for index in range(Image.getmodebands(mode))]
    file.close()  # its copy of the file goes before the colours come
    if tags[_PHOTOMETRIC] == _WHITE_IS_0:
        planes = [ImageChops.invert(plane) for plane in planes]
    merged = Image.merge(mode, planes)
    planes.clear()
    xmp = tags.get(_XMP, b"")
    orientation = tags.get(_ORIENTATION) or known_orientation(b"", [xmp if isinstance(xmp, bytes) else b""])
    return upright(rgb_pixels(merged), int(orientation))


def _plane(
    file: io.BytesIO, num_bytes: int, tags: TiffImagePlugin.ImageFileDirectory_v2, index: int
) -> Image.Image:
    """Put a directory for one plane behind the file, point to it, and read that."""
    order = "<" if tags.prefix == b"II" else ">"
    start = num_bytes + num_bytes % 2
    file.seek(0)
    file.write(bytes(tags.prefix) + struct.pack(order + "HI", _MAGIC, start))
    file.seek(start)
    file.write(_directory(_plane_tags(tags, index), order, start))
    file.truncate()
    file.seek(0)
    with Image.open(file, formats=("TIFF",)) as image:
        return grey_levels(image)


def _plane_tags(
    tags: TiffImagePlugin.ImageFileDirectory_v2, index: int
) -> dict[int, tuple[int, ...] | bytes]:
    own: dict[int, tuple[int, ...] | bytes] = {
        tag: (int(tags[tag]),) for tag in _KEPT_IN_PLANES if tag in tags
    }
    own |= {_BITS: samples(tags, _BITS)[:1], _PHOTOMETRIC: (_BLACK_IS_0,), _NUM_SAMPLES: (1,)}
    if _JPEG_TABLES in tags:
        own[_JPEG_TABLES] = bytes(tags[_JPEG_TABLES])
    for tag in (*_OFFSETS, *_SIZES):
        if tag in tags:
            numbers = samples(tags, tag)
            per_plane = len(numbers) // int(tags.get(_NUM_SAMPLES, 1))
            own[tag] = numbers[index * per_plane :][:per_plane]
    return own


def _directory(tags: Mapping[int, tuple[int, ...] | bytes], order: str, start: int) -> bytes:
    """Return a directory, with its values behind it, as it stands at an offset of a file."""
    entries, values, values_at = [], [], start + 2 + 12 * len(tags) + 4
    for tag, content in sorted(tags.items()):
        if isinstance(content, bytes):
            kind, words = _UNDEFINED, content
        else:
            kind, words = _UINT32, struct.pack(f"{order}{len(content)}I", *content)
        entries.append(struct.pack(order + "HHI", tag, kind, len(content)))
        if len(words) <= _INLINE_BYTES:
            entries.append(words.ljust(_INLINE_BYTES, b"\0"))
            continue
        entries.append(struct.pack(order + "I", values_at))
        values.append(words + bytes(len(words) % 2))
        values_at += len(values[-1])
    return struct.pack(order + "H", len(tags)) + b"".join(entries) + bytes(4) + b"".join(values)
