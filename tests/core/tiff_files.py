"""TIFF files of any layout, written by hand: other writers know only a few."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BYTE, SHORT, LONG, UNDEFINED, LONG8 = 1, 3, 4, 7, 16
EXTRA_SAMPLES = 338
ANY, PREMULTIPLIED, ORDINARY = 0, 1, 2  # kinds of a sample beyond the colours
WHITE_IS_0, BLACK_IS_0, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5

ROWS = 7  # of a strip

_CODES = {BYTE: "B", UNDEFINED: "B", SHORT: "H", LONG: "I", LONG8: "Q"}


@dataclass(frozen=True)
class Layout:
    """How samples lie in a file.

    Attributes:
        order: Of bytes, "<" or ">".
        is_big: BigTIFF.
        is_planar: Every colour stands for itself.
        tile: Side of the tiles, 0: strips.
        is_packed: Compressed by deflate.
    """

    order: str = "<"
    is_big: bool = False
    is_planar: bool = False
    tile: int = 0
    is_packed: bool = False


def tiff(
    samples: NDArray,
    photometric: int,
    tags: Mapping[int, tuple[int, Sequence[int]]] = {},
    layout: Layout = Layout(),
    blocks: Sequence[bytes] = (),
) -> bytes:
    """A file of (H, W, S) samples; further tags are numbers with their type.

    Instead of what the layout makes of the samples, a block for each plane may be given.
    """
    height, width, num_samples = samples.shape
    planes = np.split(samples, num_samples, axis=2) if layout.is_planar else [samples]
    rows = height if blocks else ROWS
    blocks = blocks or [_packed(block, layout) for plane in planes for block in _blocks(plane, layout.tile)]
    starts = np.cumsum([16, *map(len, blocks)]).tolist()
    numbers = (LONG8 if layout.is_big else LONG, starts[:-1]), (LONG, [len(block) for block in blocks])
    own = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [8 * samples.itemsize] * num_samples),
        259: (SHORT, [8 if layout.is_packed else 1]),
        262: (SHORT, [photometric]),
        277: (SHORT, [num_samples]),
        284: (SHORT, [2 if layout.is_planar else 1]),
        339: (SHORT, [{"u": 1, "i": 2, "f": 3}[samples.dtype.kind]] * num_samples),
    }
    if layout.tile:
        own |= {322: (LONG, [layout.tile]), 323: (LONG, [layout.tile]), 324: numbers[0], 325: numbers[1]}
    else:
        own |= {273: numbers[0], 278: (LONG, [rows]), 279: numbers[1]}
    return _file(b"".join(blocks), own | dict(tags), layout)


def _blocks(plane: NDArray, tile: int) -> Iterator[NDArray]:
    height, width, _ = plane.shape
    if not tile:
        yield from (plane[top : top + ROWS] for top in range(0, height, ROWS))
        return
    padded = np.pad(plane, [(0, -height % tile), (0, -width % tile), (0, 0)])
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            yield padded[top : top + tile, left : left + tile]


def _packed(block: NDArray, layout: Layout) -> bytes:
    content = block.astype(block.dtype.newbyteorder(layout.order)).tobytes()
    content = zlib.compress(content) if layout.is_packed else content
    return content + bytes(len(content) % 2)


def _file(blocks: bytes, tags: Mapping[int, tuple[int, Sequence[int]]], layout: Layout) -> bytes:
    order, size = layout.order, "Q" if layout.is_big else "I"
    start = 16 + len(blocks)
    entry_bytes, inline_bytes = (20, 8) if layout.is_big else (12, 4)
    values_at = start + (8 if layout.is_big else 2) + entry_bytes * len(tags) + inline_bytes
    entries = values = b""
    for tag, (kind, numbers) in sorted(tags.items()):
        words = struct.pack(f"{order}{len(numbers)}{_CODES[kind]}", *numbers)
        here = struct.pack(order + size, values_at + len(values))
        entries += struct.pack(f"{order}HH{size}", tag, kind, len(numbers))
        entries += here if len(words) > inline_bytes else words.ljust(inline_bytes, b"\0")
        values += words + bytes(len(words) % 2) if len(words) > inline_bytes else b""
    name = b"II" if order == "<" else b"MM"
    head = (
        struct.pack(order + "HHHQ", 43, 8, 0, start)
        if layout.is_big
        else struct.pack(order + "HI", 42, start)
    )
    number = struct.pack(order + ("Q" if layout.is_big else "H"), len(tags))
    return (name + head).ljust(16, b"\0") + blocks + number + entries + bytes(inline_bytes) + values
