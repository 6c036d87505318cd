"""TIFF files, by Pillow: what it would read wrongly, or refuse without saying why, is looked at first."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from sapiens_core.limits import check_size
from sapiens_core.orientation import known_orientation
from sapiens_core.pil_pixels import check_samples, compression, rgb_pixels, samples

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
_ORIENTATION, _XMP = 274, 700
_OFFSETS, _SIZES = (_STRIP_OFFSETS, _TILE_OFFSETS), (_STRIP_BYTES, _TILE_BYTES)
_WHITE_IS_0, _BLACK_IS_0, _RGB, _CMYK = 0, 1, 2, 5
_NUM_COLOURS = {_WHITE_IS_0: 1, _BLACK_IS_0: 1, _RGB: 3, _CMYK: 4}
_KEPT_IN_PLANES = (
    _WIDTH,
    _LENGTH,
    _COMPRESSION,
    _ROWS_PER_STRIP,
    _PREDICTOR,
    _TILE_WIDTH,
    _TILE_LENGTH,
)
_PREMULTIPLIED = 1
_APART = 2
_MAGIC, _UINT32 = 42, 4


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
        is_inverse = photometric == _WHITE_IS_0 and self.tags.get(_NUM_SAMPLES, 1) == 1
        return photometric in _NUM_COLOURS and (is_inverse or self.tags.get(_PLANAR) == _APART)


def tiff_header(encoded: NDArray[np.uint8]) -> TiffHeader:
    """Read the first directory of a TIFF file.

    Args:
        encoded: (B,) uint8, the bytes of the file.

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
        encoded: (B,) uint8, the bytes of the file.
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
        bits = ", ".join(map(str, samples(header.tags, _BITS) or (1,)))
        raise ValueError(
            f"TIFF must be grey, RGB, CMYK or have a palette, got photometric interpretation {photometric} "
            f"with {num_samples} samples of {bits} bits; save it again as RGB or PNG"
        ) from error
    except (OSError, SyntaxError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        raise ValueError(
            f"TIFF of {encoded.size} bytes with compression {compression(header.tags)} is truncated, damaged "
            f"or of a layout that is not read: {error}; send the complete file, or save it again as PNG"
        ) from error


def _pixels(file: memoryview | bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
        return rgb_pixels(image)


def _planar_pixels(encoded: NDArray[np.uint8], header: TiffHeader) -> NDArray[np.uint8]:
    """Read the planes as grey pictures of their own."""
    tags = header.tags
    num_colours = _NUM_COLOURS[tags[_PHOTOMETRIC]]
    has_products = tags[_PHOTOMETRIC] == _RGB and samples(tags, _EXTRA_SAMPLES)[:1] == (_PREMULTIPLIED,)
    planes = [_pixels(_plane(encoded, tags, index))[:, :, 0] for index in range(num_colours + has_products)]
    if num_colours == _NUM_COLOURS[_CMYK]:
        return rgb_pixels(Image.merge("CMYK", [Image.fromarray(plane) for plane in planes]))
    if not has_products:
        pixels = np.dstack(planes if num_colours > 1 else planes * 3)
        return np.invert(pixels) if tags[_PHOTOMETRIC] == _WHITE_IS_0 else pixels
    alpha = np.maximum(planes.pop().astype(np.float32), 1)
    products = [np.rint(np.minimum(plane * (255 / alpha), 255)) for plane in planes]
    return np.dstack(products).astype(np.uint8)


def _plane(encoded: NDArray[np.uint8], tags: TiffImagePlugin.ImageFileDirectory_v2, index: int) -> bytes:
    """Put a directory for one plane behind the file, and point to it."""
    xmp = tags.get(_XMP, b"")
    own: dict[int, tuple[int, ...]] = {tag: (int(tags[tag]),) for tag in _KEPT_IN_PLANES if tag in tags}
    own |= {
        _BITS: samples(tags, _BITS)[:1],
        _PHOTOMETRIC: (_BLACK_IS_0,),
        _NUM_SAMPLES: (1,),
        _ORIENTATION: (
            tags.get(_ORIENTATION) or known_orientation(b"", [xmp if isinstance(xmp, bytes) else b""]),
        ),
    }
    for tag in (*_OFFSETS, *_SIZES):
        if tag in tags:
            numbers = samples(tags, tag)
            per_plane = len(numbers) // int(tags.get(_NUM_SAMPLES, 1))
            own[tag] = numbers[index * per_plane :][:per_plane]
    order = "<" if tags.prefix == b"II" else ">"
    start = encoded.size + encoded.size % 2
    entries, values, values_at = [], [], start + 2 + 12 * len(own) + 4
    for tag, numbers in sorted(own.items()):
        words = struct.pack(f"{order}{len(numbers)}I", *numbers)
        entries.append(struct.pack(order + "HHI", tag, _UINT32, len(numbers)))
        entries.append(words if len(numbers) == 1 else struct.pack(order + "I", values_at))
        if len(numbers) > 1:
            values.append(words)
            values_at += len(words)
    head = bytes(tags.prefix) + struct.pack(order + "HI", _MAGIC, start)
    directory = struct.pack(order + "H", len(own)) + b"".join(entries) + bytes(4) + b"".join(values)
    return head + encoded[len(head) :].tobytes() + bytes(encoded.size % 2) + directory
