from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiff_files import (
    ANY,
    BLACK_IS_0,
    CMYK,
    EXTRA_SAMPLES,
    ORDINARY,
    PALETTE,
    PREMULTIPLIED,
    RGB,
    SHORT,
    WHITE_IS_0,
    Layout,
    tiff,
)

from sapiens_core.images.codec import decode_bgr
from sapiens_core.images.pil_pixels import rgb_pixels

LAYOUTS = {
    f"{'little' if order == '<' else 'big'}-endian{', big' * is_big}{', planar' * is_planar}"
    f"{', tiles' if tile else ''}{', packed' * is_packed}": Layout(order, is_big, is_planar, tile, is_packed)
    for order in "<>"
    for is_big in (False, True)
    if order == "<" or not is_big  # Pillow 13 knows no BigTIFF of big-endian numbers
    for is_planar in (False, True)
    for tile in (0, 16)
    for is_packed in (False, True)
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
every_depth = pytest.mark.parametrize("bits", [8, 16])


@pytest.fixture(scope="module")
def rgb() -> NDArray[np.uint8]:
    """(40, 50, 3): sides that are no multiples of a tile's."""
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def alpha() -> NDArray[np.uint8]:
    return np.linspace(0, 255, 40 * 50).astype(np.uint8).reshape(40, 50, 1)


def of_depth(samples: NDArray[np.uint8], bits: int) -> NDArray:
    return samples if bits == 8 else samples.astype(np.uint16) * 257


def decoded(data: bytes) -> NDArray[np.uint8]:
    return decode_bgr(np.frombuffer(data, np.uint8))[:, :, ::-1]


@every_layout
@pytest.mark.parametrize(
    ("bits", "extra"), [(8, (ORDINARY,)), (16, (ORDINARY,)), (8, (ANY,)), (16, ()), (8, (ORDINARY, ANY))]
)
def test_ordinary_alpha_is_dropped_as_from_a_png(rgb, alpha, layout, bits, extra):
    samples = of_depth(np.dstack([rgb, *[alpha] * max(1, len(extra))]), bits)
    tags = {EXTRA_SAMPLES: (SHORT, extra)} if extra else {}
    np.testing.assert_array_equal(decoded(tiff(samples, RGB, tags, layout)), rgb)


@every_layout
@every_depth
def test_alpha_that_colours_were_multiplied_by_is_undone(rgb, alpha, layout, bits):
    share = alpha / 255
    samples = of_depth(np.dstack([np.rint(rgb * share).astype(np.uint8), alpha]), bits)
    data = tiff(samples, RGB, {EXTRA_SAMPLES: (SHORT, [PREMULTIPLIED])}, layout)
    is_visible = alpha[:, :, 0] > 200
    np.testing.assert_allclose(decoded(data)[is_visible], rgb[is_visible], rtol=0, atol=1)


@every_layout
@every_depth
@pytest.mark.parametrize("photometric", [WHITE_IS_0, BLACK_IS_0])
def test_grey_of_either_sense_becomes_colour(rgb, layout, bits, photometric):
    grey = rgb[:, :, :1]
    samples = of_depth(255 - grey if photometric == WHITE_IS_0 else grey, bits)
    expected = np.repeat(grey, 3, axis=2)
    np.testing.assert_array_equal(decoded(tiff(samples, photometric, {}, layout)), expected)


@every_layout
def test_grey_with_alpha_loses_the_alpha(rgb, alpha, layout):
    samples = np.dstack([rgb[:, :, :1], alpha])
    data = tiff(samples, BLACK_IS_0, {EXTRA_SAMPLES: (SHORT, [ORDINARY])}, layout)
    np.testing.assert_array_equal(decoded(data), np.repeat(rgb[:, :, :1], 3, axis=2))


@every_layout
@every_depth
def test_inks_become_colours(rgb, layout, bits):
    samples = of_depth(np.dstack([255 - rgb, np.zeros_like(rgb[:, :, :1])]), bits)
    np.testing.assert_array_equal(decoded(tiff(samples, CMYK, {}, layout)), rgb)


@every_layout
def test_palettes_are_looked_up(rgb, layout):
    palette = np.random.default_rng(1).integers(0, 256, (3, 256))
    data = tiff(rgb[:, :, :1], PALETTE, {320: (SHORT, (palette * 257).ravel().tolist())}, layout)
    np.testing.assert_array_equal(decoded(data), palette.T[rgb[:, :, 0]])


def test_twelve_bits_are_scaled():
    packed = np.array([[[0xFF], [0xF8], [0x00], [0x01], [0x00], [0x00]]], np.uint8)
    data = tiff(packed, BLACK_IS_0, {256: (SHORT, [4]), 258: (SHORT, [12])})
    assert decoded(data)[0, :, 0].tolist() == [255, 128, 1, 0]


@every_layout
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_layout_is_turned_upright(rgb, layout, orientation):
    data = tiff(rgb, RGB, {274: (SHORT, [orientation])}, layout)
    assert decoded(data).shape == ((50, 40, 3) if orientation > 4 else (40, 50, 3))
    np.testing.assert_array_equal(decoded(data), rgb_pixels(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("samples", "tags", "words"),
    [
        (np.zeros((4, 5, 3), np.float32), {}, "unsigned integers, got floats of 32 bits; scale"),
        (np.zeros((4, 5, 1), np.float16), {}, "got floats of 16 bits"),
        (np.zeros((4, 5, 1), np.int16), {}, "got numbers with a sign of 16 bits"),
        (np.zeros((4, 5, 3), np.uint32), {}, "got 32, 32, 32 bits; scale"),
        (np.zeros((4, 5, 3), np.uint8), {258: (SHORT, [14, 14, 14])}, "got 14, 14, 14 bits"),
        (np.zeros((4, 5, 3), np.uint8), {258: (SHORT, [8] * 9000 + [9])}, "got 8, 8, 8, 8, 8, 8, ... bits;"),
        (np.zeros((4, 5, 3), np.uint8), {259: (SHORT, [34712])}, r"34712 \(JPEG 2000\); save it again"),
        (np.zeros((4, 5, 3), np.uint8), {259: (SHORT, [50000])}, r"compression 50000 \(Zstandard\)"),
        (np.zeros((4, 5, 3), np.uint8), {259: (SHORT, [50002])}, r"50002 \(JPEG XL\)"),
        (
            np.zeros((4, 5, 3), np.uint8),
            {262: (SHORT, [32803])},
            "photometric interpretation 32803 with 3 samples",
        ),
        (np.zeros((4, 5, 5), np.uint16), {}, "with 5 samples of 16, 16, 16, 16, 16 bits"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(samples, tags, words):
    with pytest.raises(ValueError, match=words):
        decoded(tiff(samples, RGB if samples.shape[2] > 1 else BLACK_IS_0, tags))


def test_a_pil_image_that_pillow_reads_wrongly_is_refused(rgb):
    image = Image.open(io.BytesIO(tiff(of_depth(rgb, 16), RGB, {}, Layout(is_planar=True))))
    with pytest.raises(ValueError, match="pass the path or the bytes"):
        rgb_pixels(image)
