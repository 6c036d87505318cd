"""TIFFs whose tags tell the decoder how to read their bits, compared with Pillow's reading of the file."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiff_files import (
    BLACK_IS_0,
    CMYK,
    EXTRA_SAMPLES,
    PREMULTIPLIED,
    RGB,
    SHORT,
    UNDEFINED,
    WHITE_IS_0,
    Layout,
    tiff,
)

from sapiens_core.images.codec import decode_bgr

FILL_ORDER, T4_OPTIONS, JPEG_TABLES = 266, 292, 347
REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]
IN_2D = 1
H, W = 40, 56
every_sense = pytest.mark.parametrize(
    "photometric", [WHITE_IS_0, BLACK_IS_0], ids=["white is 0", "black is 0"]
)
every_order = pytest.mark.parametrize("order", "<>")

# Decodes a file of argv[1] and tells by how many bytes a pixel that raised the peak of the process's memory.
PEAK = """
import sys
from pathlib import Path
import numpy as np
from sapiens_core.images.codec import decode_bgr

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

encoded, small = (np.fromfile(path, np.uint8) for path in sys.argv[1:])
decode_bgr(small)
before = peak()
height, width, _ = decode_bgr(encoded).shape
print((peak() - before) / (height * width))
"""


@pytest.fixture(scope="module")
def page() -> Image.Image:
    """A page of black and white, with runs of all lengths."""
    rng = np.random.default_rng(0)
    lines = np.cumsum(rng.integers(0, 12, (H, W)) == 0, axis=1) % 2
    lines[5:9], lines[20:30] = 1, lines[20]
    return Image.fromarray((lines * 255).astype(np.uint8)).convert("1")


def decoded(data: bytes) -> NDArray[np.uint8]:
    return decode_bgr(np.frombuffer(data, np.uint8))[:, :, ::-1]


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **options)
    return buffer.getvalue()


def with_reversed_bits(data: bytes) -> bytes:
    """The same file with the bits of its only strip the other way round: FillOrder 2 in place of its size."""
    image = Image.open(io.BytesIO(data))
    start, size = image.tag_v2[273][0], image.tag_v2[279][0]
    turned = (
        data[:start] + REVERSED[np.frombuffer(data[start:][:size], np.uint8)].tobytes() + data[start + size :]
    )
    entry = turned.index(struct.pack("<HHI", FILL_ORDER, SHORT, 1))
    return turned[: entry + 8] + struct.pack("<HH", 2, 0) + turned[entry + 12 :]


@every_sense
@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("options", [{}, {T4_OPTIONS: IN_2D}], ids=["", "2D"])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_fax_pages_are_read_as_by_pillow(page, photometric, compression, options, is_reversed):
    tags = {262: photometric, 278: H, FILL_ORDER: 1} | (options if compression == "group3" else {})
    data = saved(page, compression=compression, tiffinfo=tags)
    data = with_reversed_bits(data) if is_reversed else data
    np.testing.assert_array_equal(decoded(data), by_pillow(data))
    np.testing.assert_array_equal(decoded(data), np.asarray(page.convert("RGB")))


@every_sense
@every_order
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("is_packed", [False, True])
def test_reversed_bits_are_turned(photometric, order, bits, is_packed):
    levels = np.random.default_rng(1).integers(0, 256, (H, W * bits // 8, 1), dtype=np.uint8)
    tags = {256: (SHORT, [W]), 258: (SHORT, [bits])}
    layout = Layout(order, is_packed=is_packed)
    content = zlib.compress(levels.tobytes()) if is_packed else levels.tobytes()
    block = REVERSED[np.frombuffer(content, np.uint8)].tobytes()
    data = tiff(levels, photometric, tags | {FILL_ORDER: (SHORT, [2])}, layout, blocks=[block])
    np.testing.assert_array_equal(decoded(data), decoded(tiff(levels, photometric, tags, layout)))
    if is_packed or bits < 8 or photometric == BLACK_IS_0:  # else Pillow reads nothing
        np.testing.assert_array_equal(decoded(data), by_pillow(data))


@pytest.mark.parametrize("photometric", [RGB, CMYK])
def test_reversed_bits_of_colours_apart_are_turned(photometric):
    colours = np.random.default_rng(2).integers(0, 256, (H, W, 3 + (photometric == CMYK)), dtype=np.uint8)
    data = tiff(REVERSED[colours], photometric, {FILL_ORDER: (SHORT, [2])}, Layout(is_planar=True))
    np.testing.assert_array_equal(decoded(data), decoded(tiff(colours, photometric)))


def test_reversed_bits_that_pillow_cannot_read_are_named():
    levels = np.zeros((H, W, 1), np.uint16)
    with pytest.raises(ValueError, match=r"with 1 samples of 16 bits, fill order 2; save it again"):
        decoded(tiff(levels, BLACK_IS_0, {FILL_ORDER: (SHORT, [2])}, Layout(">")))


def jpeg_strips(plane: NDArray[np.uint8]) -> tuple[bytes, bytes]:
    """The tables of a grey JPEG, and its scan without them."""
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "JPEG", quality=95)
    tables, scan, at = b"\xff\xd8", b"\xff\xd8", 2
    data = buffer.getvalue()
    while data[at + 1] != 0xDA:
        length = struct.unpack(">H", data[at + 2 : at + 4])[0] + 2
        segment = data[at : at + length]
        tables, scan = (tables + segment, scan) if data[at + 1] in (0xDB, 0xC4) else (tables, scan + segment)
        at += length
    return tables + b"\xff\xd9", scan + data[at:]


@pytest.mark.parametrize(("photometric", "num_planes"), [(WHITE_IS_0, 1), (BLACK_IS_0, 1), (RGB, 3)])
def test_jpeg_tables_reach_the_decoder(photo, photometric, num_planes):
    planes = [np.ascontiguousarray(photo[:, :, index]) for index in range(num_planes)]
    tables, _ = jpeg_strips(planes[0])
    scans = [jpeg_strips(plane)[1] for plane in planes]
    tags = {259: (SHORT, [7]), JPEG_TABLES: (UNDEFINED, tables)}
    data = tiff(np.dstack(planes), photometric, tags, Layout(is_planar=True), blocks=scans)
    np.testing.assert_array_equal(decoded(data), by_pillow(data))
    expected = 255 - photo if photometric == WHITE_IS_0 else photo
    expected = expected if num_planes == 3 else np.repeat(expected[:, :, :1], 3, axis=2)
    assert np.abs(decoded(data).astype(int) - expected).mean() < 6


def test_colours_apart_take_no_more_memory_than_together(tmp_path):
    samples = np.random.default_rng(3).integers(0, 256, (1500, 2000, 4), dtype=np.uint8)
    tags = {EXTRA_SAMPLES: (SHORT, [PREMULTIPLIED])}
    peaks = {}
    for is_planar in (False, True):
        path, small = tmp_path / f"{is_planar}.tiff", tmp_path / "small.tiff"
        path.write_bytes(tiff(samples, RGB, tags, Layout(is_planar=is_planar)))
        small.write_bytes(tiff(samples[:9, :9], RGB, tags, Layout(is_planar=is_planar)))
        told = subprocess.run(
            [sys.executable, "-c", PEAK, path, small], capture_output=True, text=True, check=True
        )
        peaks[is_planar] = float(told.stdout)
    assert peaks[True] <= peaks[False] + 4, peaks  # a further copy of the file, say
