"""Which way up an image file is meant to be shown, wherever the file says it; and turning pixels so.

EXIF counts before XMP, as in Pillow. What is damaged says nothing.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.images.opencv import flipped, transposed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

UPRIGHT = 1
EXIF_ORIENTATION = 0x0112
XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"

_EXIF_HEAD = b"Exif\0\0"
_IN_XMP = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([0-9])")
_FORMAT_OF_TYPE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # the kinds of integers in EXIF
_TRANSPOSED = (5, 6, 7, 8)
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # codes of `flipped`, after transposing
_MAX_TEXT_BYTES = 2**22  # what compressed text of a PNG may become


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn (H, W, 3) uint8 pixels as an EXIF orientation says; what is none leaves them as they are."""
    turned = transposed(image) if orientation in _TRANSPOSED else image
    if orientation in _FLIPS:
        turned = flipped(turned, _FLIPS[orientation])
    return turned


def known_orientation(exif: bytes, xmp: Iterable[bytes]) -> int:
    """Return an orientation from 1 to 8.

    Args:
        exif: A block of EXIF, with or without its head; empty: there is none.
        xmp: Packets of XMP.
    """
    found = exif_orientation(exif)
    if found is None:
        matches = (_IN_XMP.search(packet) for packet in xmp)
        found = next((int(match[1]) for match in matches if match), UPRIGHT)
    return found if found in range(1, 9) else UPRIGHT


def exif_orientation(exif: bytes) -> int | None:
    """Return what the tag says in a block of EXIF, whatever else there is; None: nothing."""
    block = exif.removeprefix(_EXIF_HEAD)
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (number,) = struct.unpack_from(order + "H", block, start)
        for index in range(number):
            tag, kind, _ = struct.unpack_from(order + "HHI", block, start + 2 + 12 * index)
            if tag == EXIF_ORIENTATION and kind in _FORMAT_OF_TYPE:
                return int(
                    struct.unpack_from(order + _FORMAT_OF_TYPE[kind], block, start + 10 + 12 * index)[0]
                )
    except struct.error:  # it ends too early
        return None
    return None


def jpeg_orientation(segments: Iterable[tuple[str, bytes]]) -> int:
    """Return the orientation of a JPEG.

    Args:
        segments: Names and contents of its APP segments, in their order.
    """
    contents = [content for name, content in segments if name == "APP1"]
    blocks = [content[len(_EXIF_HEAD) :] for content in contents if content.startswith(_EXIF_HEAD)]
    xmp = [content for content in contents if content.startswith(XMP_HEAD)]
    return known_orientation(b"".join(blocks), xmp)  # what is too long for one segment goes on in the next


def png_orientation(chunks: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the orientation of a PNG.

    Args:
        chunks: Names and contents of its chunks but those of pixels, in their order.
    """
    exif, xmp = b"", []
    left = _MAX_TEXT_BYTES  # for all chunks together: they may be many, and small until they are unpacked
    for name, content in chunks:
        if name == b"eXIf":
            exif = content
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, _, text = content.partition(b"\0")
            if keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
                text = b"".join(_png_text(name, text, left))
                left -= len(text)
                block = _unwrapped(text)
                exif = exif or block
                xmp.append(block)
            elif keyword in (b"XML:com.adobe.xmp", b"Raw profile type xmp"):
                text = b"".join(_png_text(name, text, left))
                left -= len(text)
                xmp.append(_unwrapped(text) if keyword.startswith(b"Raw") else text)
    return known_orientation(exif, xmp)


def _png_text(name: bytes, content: bytes, max_bytes: int) -> Iterator[bytes]:
    """Tell the text behind the keyword of a chunk, if it can be read, or as much of it as may be unpacked."""
    if max_bytes <= 0:
        return
    if name == b"tEXt":
        yield content
        return
    is_compressed = name == b"zTXt" or content[:1] == b"\1"
    text = content[1:] if name == b"zTXt" else content[2:].split(b"\0", 2)[-1]
    try:
        yield zlib.decompressobj().decompress(text, max_bytes) if is_compressed else text
    except zlib.error:
        return


def _unwrapped(profile: bytes) -> bytes:
    """Decode a profile as ImageMagick keeps it in text: its name, its length, and hexadecimal digits."""
    try:
        return bytes.fromhex("".join(profile.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""
