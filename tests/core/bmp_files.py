"""BMP files of any header, written by hand: other writers know only the usual one."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CORE, OS2, INFO, V2, V3, V4, V5 = 12, 64, 40, 52, 56, 108, 124
RAW, RLE8, RLE4, BITFIELDS, ALPHA_BITFIELDS = 0, 1, 2, 3, 6
HEADERS_WITH_MASKS = (V2, V3, V4, V5)


def bmp(
    rows: NDArray,
    *,
    width: int,
    bits: int,
    header: int = INFO,
    compression: int = RAW,
    masks: Sequence[int] = (),
    palette: NDArray[np.uint8] | None = None,
    is_top_down: bool = False,
) -> bytes:
    """A file of the bytes or numbers in its rows; what is run-length encoded comes as one row."""
    height = len(rows)
    stored = rows if is_top_down else rows[::-1]
    content = b"".join(row.tobytes() + bytes(-row.nbytes % 4) for row in stored)
    return _file(
        content, (width, -height if is_top_down else height, bits), header, compression, masks, palette
    )


def packed_bmp(content: bytes, width: int, height: int, *, bits: int, palette: NDArray[np.uint8]) -> bytes:
    """A file of run lengths."""
    return _file(content, (width, height, bits), INFO, RLE8 if bits == 8 else RLE4, (), palette)


def _file(
    content: bytes,
    size: tuple[int, int, int],
    header: int,
    compression: int,
    masks: Sequence[int],
    palette: NDArray[np.uint8] | None,
) -> bytes:
    width, height, bits = size
    behind = struct.pack(f"<{len(masks)}I", *masks)
    if header == CORE:
        info = struct.pack("<IHHHH", header, width, height, 1, bits)
    else:
        info = struct.pack(
            "<IiiHHIIiiII", header, width, height, 1, bits, compression, len(content), 2835, 2835, 0, 0
        )
        if header in HEADERS_WITH_MASKS:
            info, behind = (info + behind).ljust(header, b"\0"), b""
        info = info.ljust(header, b"\0")
    colours = (
        b""
        if palette is None
        else b"".join(bytes(bgr) + b"\0" * (header != CORE) for bgr in palette[:, ::-1])
    )
    start = 14 + len(info) + len(behind) + len(colours)
    return struct.pack("<2sIII", b"BM", start + len(content), 0, start) + info + behind + colours + content
