from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sapiens_client import ImageNotFoundError, ImageReadError, InvalidInputError
from sapiens_client.images import encoded_image
from sapiens_core.image_codec import decode_bgr
from sapiens_core.limits import LIMITS

KINDS = ["1x1", "3x2000", "4000x3", "portrait", "exif-rotated", "grey", "rgba", "16-bit", "cmyk", "4k"]


def pixels(encoded: bytes) -> np.ndarray:
    return decode_bgr(np.frombuffer(encoded, np.uint8))[:, :, ::-1]


@pytest.mark.parametrize("kind", KINDS)
def test_an_opened_pil_image_means_the_same_pixels_as_its_file(odd_images, kind):
    encoded = odd_images[kind]
    opened = pixels(encoded_image(Image.open(io.BytesIO(encoded))))
    tolerance = 1 if kind == "cmyk" else 0  # PIL and OpenCV round the conversion to RGB differently
    assert cv2.absdiff(opened, pixels(encoded)).max() <= tolerance


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "YCbCr", "I;16", "I"])
def test_pil_images_of_any_mode_become_rgb(mode):
    grey = Image.fromarray(np.arange(0, 250, 10, dtype=np.uint8).reshape(5, 5))
    image = grey.convert("I").point(lambda level: level * 256) if mode.startswith("I") else grey
    decoded = pixels(encoded_image(image.convert(mode)))
    expected = np.asarray(grey.convert("1") if mode == "1" else grey, dtype=np.uint8) * (
        255 if mode == "1" else 1
    )
    np.testing.assert_array_equal(decoded, np.repeat(expected[:, :, None], 3, axis=2))


def test_mode_i_may_hold_8_bits():
    grey = Image.fromarray(np.uint8([[0, 200, 255]]))
    decoded = pixels(encoded_image(grey.convert("I")))
    np.testing.assert_array_equal(decoded[:, :, 0], [[0, 200, 255]])


@pytest.mark.parametrize("mode", ["1", "I"])
@pytest.mark.parametrize("size", [(LIMITS.max_image_side + 1, 1), (10_000, 10_000)])
def test_too_many_pixels_are_refused(mode, size):
    with pytest.raises(InvalidInputError, match=f"at most .* got {size[0]} x {size[1]}"):
        encoded_image(Image.new(mode, size))


def test_a_palette_with_transparency_loses_it_without_a_warning(encode):
    palette = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).convert("P")
    encoded = encode(palette, transparency=bytes(range(256)))
    np.testing.assert_array_equal(pixels(encoded_image(Image.open(io.BytesIO(encoded)))), pixels(encoded))


@pytest.mark.parametrize(
    "view",
    [lambda a: a, lambda a: a[..., ::-1], lambda a: a[:, ::-1], lambda a: a[::2, 1::3], np.asfortranarray],
    ids=["plain", "bgr", "mirrored", "strided", "fortran"],
)
def test_arrays_travel_losslessly_whatever_their_strides(photo, view):
    np.testing.assert_array_equal(pixels(encoded_image(view(photo))), view(photo))


def test_files_and_bytes_travel_as_they_are(odd_images, tmp_path):
    encoded = odd_images["portrait"]
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded)
    assert encoded_image(encoded).tobytes() == encoded
    assert encoded_image(path).tobytes() == encoded
    assert encoded_image(str(path)).tobytes() == encoded


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        (b"", "got 0 bytes"),
        (np.zeros((4, 5), np.uint8), r"\(4, 5\) uint8"),
        (np.zeros((4, 5, 4), np.uint8), r"\(4, 5, 4\) uint8"),
        (np.zeros((4, 5, 3), np.float32), r"\(4, 5, 3\) float32"),
        (np.zeros((0, 5, 3), np.uint8), "5 x 0"),
        (Image.new("RGB", (0, 5)), "0 x 5"),
        (Image.new("F", (4, 5)), "mode 'F'"),
        ([[1, 2, 3]], "got list"),
        (None, "got NoneType"),
        (42, "got int"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused_with_what_was_seen(image, seen):
    with pytest.raises(InvalidInputError, match=seen):
        encoded_image(image)


def test_too_many_bytes_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "huge.tiff"
    with path.open("wb") as file:
        file.truncate(LIMITS.max_image_bytes + 1)
    with pytest.raises(InvalidInputError, match=f"at most {LIMITS.max_image_bytes} bytes, got 268435457"):
        encoded_image(path)


def test_a_truncated_pil_image_is_refused(odd_images):
    half = odd_images["portrait"][:5000]
    with pytest.raises(InvalidInputError, match="truncated"):
        encoded_image(Image.open(io.BytesIO(half)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.jpg"):
        encoded_image(tmp_path / "nowhere.jpg")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(InvalidInputError, match="0 bytes"):
        encoded_image(tmp_path / "empty.png")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="got the folder"):
        encoded_image(tmp_path)


@pytest.mark.parametrize("name", ["nul\0byte.png", "x" * 300])
def test_a_path_that_cannot_be_opened_is_an_error_of_the_tree(name):
    with pytest.raises(ImageReadError, match="must be readable"):
        encoded_image(name)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "photo.jpg")
    with pytest.raises(InvalidInputError, match=r"regular file, got .*photo\.jpg.*pass the bytes"):
        encoded_image(tmp_path / "photo.jpg")


@pytest.mark.parametrize("path", ["/dev/null", "/dev/fd/{}"])
def test_devices_and_open_pipes_are_refused(path):
    reader, writer = os.pipe()
    with pytest.raises(InvalidInputError, match=r"regular file, got .*/dev/.*pass the bytes"):
        encoded_image(Path(path.format(reader)))
    os.close(reader)
    os.close(writer)
