from __future__ import annotations

import numpy as np
import pytest
from bmp_files import (
    ALPHA_BITFIELDS,
    BITFIELDS,
    CORE,
    HEADERS_WITH_MASKS,
    INFO,
    OS2,
    V2,
    V3,
    V4,
    V5,
    bmp,
    packed_bmp,
)
from numpy.typing import NDArray

from sapiens_core.images.bmp import encode_bmp
from sapiens_core.images.codec import decode_bgr

H, W = 13, 11
every_header = pytest.mark.parametrize("header", [CORE, INFO, V2, V3, OS2, V4, V5])
every_direction = pytest.mark.parametrize("is_top_down", [False, True], ids=["bottom-up", "top-down"])
MASKS = {
    "xrgb": (0xFF0000, 0xFF00, 0xFF),
    "xbgr": (0xFF, 0xFF00, 0xFF0000),
    "rgbx": (0xFF000000, 0xFF0000, 0xFF00),
    "bgrx": (0xFF00, 0xFF0000, 0xFF000000),
    "rxgb": (0xFF000000, 0xFF00, 0xFF),
    "10 bits": (0x3FF << 20, 0x3FF << 10, 0x3FF),
    "11, 11, 10": (0x7FF << 21, 0x7FF << 10, 0x3FF),
}


@pytest.fixture
def rgb() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


def decoded(data: bytes) -> NDArray[np.uint8]:
    return decode_bgr(np.frombuffer(data, np.uint8))[:, :, ::-1]


def of_masks(masks: tuple[int, ...], kind: str, junk: int = 0) -> tuple[NDArray, NDArray[np.uint8]]:
    """(H, W) pixels of random colours under the masks, and the (H, W, 3) that they mean."""
    rng = np.random.default_rng(1)
    pixels, colours = np.full((H, W), junk, np.uint64), []
    for mask in masks:
        shift = (mask & -mask).bit_length() - 1
        values = rng.integers(0, (mask >> shift) + 1, (H, W)).astype(np.uint64)
        pixels |= values << np.uint64(shift)
        colours.append(np.rint(values * (255 / (mask >> shift))).astype(np.uint8))
    return pixels.astype(kind), np.dstack(colours)


@every_header
@every_direction
def test_24_bits_are_blue_green_red(rgb, header, is_top_down):
    if header == CORE and is_top_down:
        is_top_down = False  # its heights have no sign
    data = bmp(rgb[:, :, ::-1].reshape(H, -1), width=W, bits=24, header=header, is_top_down=is_top_down)
    np.testing.assert_array_equal(decoded(data), rgb)


@every_header
@pytest.mark.parametrize("fourth", [0, 100, 255])
def test_the_fourth_byte_of_32_bits_is_dropped(rgb, header, fourth):
    rows = np.dstack([rgb[:, :, ::-1], np.full((H, W), fourth, np.uint8)]).reshape(H, -1)
    np.testing.assert_array_equal(decoded(bmp(rows, width=W, bits=32, header=header)), rgb)


@every_header
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_palettes_are_looked_up(header, bits):
    rng = np.random.default_rng(2)
    palette = rng.integers(0, 256, (2**bits, 3), dtype=np.uint8)
    indices = rng.integers(0, 2**bits, (H, 16), dtype=np.uint8)
    rows = np.packbits(np.unpackbits(indices[:, :, None], axis=2)[:, :, 8 - bits :].reshape(H, -1), axis=1)[
        :, : (W * bits + 7) // 8
    ]
    data = bmp(rows, width=W, bits=bits, header=header, palette=palette)
    np.testing.assert_array_equal(decoded(data), palette[indices[:, :W]])


@every_header
def test_16_bits_are_five_for_each_colour_and_white_is_255(header):
    pixels, rgb = of_masks((0x7C00, 0x3E0, 0x1F), "<u2", junk=0x8000)
    np.testing.assert_array_equal(decoded(bmp(pixels, width=W, bits=16, header=header)), rgb)


@pytest.mark.parametrize("header", [INFO, *HEADERS_WITH_MASKS])
@pytest.mark.parametrize(
    "masks", [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F), (0xF00, 0xF0, 0xF), (0x1F, 0x7E0, 0xF800)]
)
def test_masks_of_16_bits_are_heeded(header, masks):
    pixels, rgb = of_masks(masks, "<u2")
    data = bmp(pixels, width=W, bits=16, header=header, compression=BITFIELDS, masks=masks)
    np.testing.assert_array_equal(decoded(data), rgb)


@every_direction
@pytest.mark.parametrize("header", [INFO, *HEADERS_WITH_MASKS])
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("has_alpha", [False, True])
def test_masks_of_32_bits_are_heeded(header, masks, has_alpha, is_top_down):
    rest = 0xFFFFFFFF & ~sum(masks) if has_alpha else 0
    pixels, rgb = of_masks(masks, "<u4", junk=rest & 0x5A5A5A5A)
    compression = ALPHA_BITFIELDS if has_alpha and header == INFO else BITFIELDS
    stored = (*masks, rest) if has_alpha and header != V2 else masks
    options = {"header": header, "compression": compression, "masks": stored, "is_top_down": is_top_down}
    np.testing.assert_array_equal(decoded(bmp(pixels, width=W, bits=32, **options)), rgb)


@pytest.mark.parametrize("bits", [4, 8])
def test_runs_are_repeated(bits):
    palette = np.random.default_rng(3).integers(0, 256, (2**bits, 3), dtype=np.uint8)
    runs = b"\4\x11\2\x33\0\0" + b"\6\x22\0\1"
    expected = palette[
        np.array([[2] * 6, [1] * 4 + [3] * 2] if bits == 4 else [[0x22] * 6, [0x11] * 4 + [0x33] * 2])
    ]
    np.testing.assert_array_equal(decoded(packed_bmp(runs, 6, 2, bits=bits, palette=palette)), expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": 2}, "got 2 bits by method 0"),
        ({"bits": 64}, "got 64 bits"),
        ({"bits": 24, "compression": 4}, "got 24 bits by method 4"),
        ({"bits": 24, "header": 16}, "12 or at least 40 bytes, got 16"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(options, words):
    with pytest.raises(ValueError, match=words):
        decoded(bmp(np.zeros((2, 60), np.uint8), width=2, **options))


@pytest.mark.parametrize("bits", [16, 32])
def test_pixels_that_are_cut_off_are_refused(bits):
    data = bmp(np.zeros((4, 8), f"<u{bits // 8}"), width=8, bits=bits)
    with pytest.raises(ValueError, match=f"got {len(data) - 1}; send the complete file"):
        decoded(data[:-1])


@pytest.mark.parametrize("num_bytes", [2, 13, 18, 30, 53])
def test_headers_that_are_cut_off_are_refused(num_bytes):
    data = bmp(np.zeros((4, 8), "<u4"), width=8, bits=32)
    with pytest.raises(ValueError, match=r"damaged|complete file"):
        decoded(data[:num_bytes])


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3), (17, 5, 3)])
def test_raw_pixels_keep_their_values(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(decode_bgr(encode_bmp(image))[:, :, ::-1], image)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
    ids=["grey", "rgba", "float"],
)
def test_other_arrays_are_refused_with_their_shape(image):
    with pytest.raises(ValueError, match=rf"\(4, 4.*{image.dtype}"):
        encode_bmp(image)


def test_an_empty_array_is_refused():
    with pytest.raises(ValueError, match="5 x 0"):
        encode_bmp(np.zeros((0, 5, 3), np.uint8))


@pytest.mark.parametrize("header", [INFO, *HEADERS_WITH_MASKS])
@pytest.mark.parametrize(
    "masks", [(0xF80000, 0x7E0, 0x1F), (0xF800, 0x7E0, 0x1F0000), (0x1F800, 0x7E0, 0x1F)]
)
def test_masks_beyond_the_pixel_are_refused(header, masks):
    data = bmp(np.zeros((2, 4), "<u2"), width=4, bits=16, header=header, compression=BITFIELDS, masks=masks)
    with pytest.raises(ValueError, match=f"within a pixel of 16 bits, got {masks[0]:#x}, {masks[1]:#x}"):
        decoded(data)
