from __future__ import annotations

import io
import os
import struct
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sapiens_client import ImageNotFoundError, ImageReadError, InvalidInputError
from sapiens_client.tasks.images import encoded_image
from sapiens_core.contract.limits import LIMITS
from sapiens_core.images.codec import decode_bgr

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks about damaged EXIF

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
        (np.zeros((4, 5, 3), np.float32), r"\(4, 5, 3\) float32; pass \(255 \* image\).round"),
        (np.zeros((3, 40, 50), np.uint8), r"\(3, 40, 50\) uint8; pass image.transpose\(1, 2, 0\)$"),
        (np.zeros((1, 40, 50), np.uint8), r"\(1, 40, 50\) uint8; pass image.transpose\(1, 2, 0\)$"),
        (np.zeros((3, 40, 50), np.float64), r"\(255 \* image.transpose\(1, 2, 0\)\).round\(\).clip"),
        (np.zeros((1, 4, 5, 3), np.uint8), r"\(1, 4, 5, 3\) uint8; pass image\[0\]$"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"pass image\[0\], or each to `map`"),
        (np.zeros((2, 3, 40, 50), np.float32), r"\(255 \* image\[0\].transpose\(1, 2, 0\)\).round"),
        (np.zeros((4, 5, 3), np.int64), r"int64; pass image.astype\('uint8'\)"),
        (np.zeros((9, 5, 7), np.uint8), r"\(9, 5, 7\) uint8; pass an array of pixels"),
        (np.zeros(7, np.uint8), r"\(7,\) uint8; pass an array of pixels"),
        (np.uint8(7), "got uint8|an array of pixels"),
        (io.StringIO("text"), "got str from it; open it with mode 'rb'"),
        (io.BytesIO(b""), "got 0 bytes"),
        (bytearray(), "got 0 bytes"),
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


@pytest.mark.parametrize(
    "kind", [bytearray, memoryview, io.BytesIO, lambda data: memoryview(bytearray(data)).cast("H")]
)
def test_whatever_holds_the_bytes_of_a_file_will_do(photo, encode, kind):
    data = encode(photo) + b"."  # an even number of bytes
    data = data if len(data) % 2 == 0 else data + b"."
    assert encoded_image(kind(data)).tobytes() == data


def test_open_files_are_read_from_their_start(photo, tmp_path):
    with (tmp_path / "photo.png").open("w+b") as file:
        Image.fromarray(photo).save(file, "PNG")
        np.testing.assert_array_equal(pixels(encoded_image(file)), photo)


def test_temporary_files_are_read_from_their_start(photo, encode):
    with tempfile.NamedTemporaryFile() as file:
        file.write(encode(photo))
        np.testing.assert_array_equal(pixels(encoded_image(file)), photo)


def test_streams_without_a_start_are_read_from_where_they_are(photo, encode):
    reader, writer = os.pipe()
    data = encode(photo[:10, :10])
    with os.fdopen(writer, "wb") as file:
        file.write(data)
    with os.fdopen(reader, "rb") as file:
        assert encoded_image(file).tobytes() == data


class Tensor:
    """What other libraries have: numpy makes an array of it."""

    def __init__(self, array: np.ndarray | Exception) -> None:
        self._array = array

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        if isinstance(self._array, Exception):
            raise self._array
        return self._array


FORMS = {
    "grey": (lambda rgb: rgb[:, :, 0], lambda rgb: rgb[:, :, [0, 0, 0]]),
    "one channel": (lambda rgb: rgb[:, :, :1], lambda rgb: rgb[:, :, [0, 0, 0]]),
    "grey and alpha": (lambda rgb: rgb[:, :, :2], lambda rgb: rgb[:, :, [0, 0, 0]]),
    "rgba": (lambda rgb: np.dstack([rgb, rgb[:, :, 0]]), lambda rgb: rgb),
    "16 bits": (lambda rgb: rgb.astype(np.uint16) * 257, lambda rgb: rgb),
    "16 bits, big-endian": (lambda rgb: (rgb.astype(np.uint16) * 257).astype(">u2"), lambda rgb: rgb),
    "16 bits, grey": (lambda rgb: rgb[:, :, 0].astype(np.uint16) << 8, lambda rgb: rgb[:, :, [0, 0, 0]]),
    "a mask": (lambda rgb: rgb[:, :, 0] > 100, lambda rgb: np.uint8(255) * (rgb[:, :, [0, 0, 0]] > 100)),
    "a tensor": (Tensor, lambda rgb: rgb),
    "three rows": (lambda rgb: rgb[:3], lambda rgb: rgb[:3]),
}


@pytest.mark.parametrize(("form", "expected"), FORMS.values(), ids=FORMS.keys())
def test_arrays_follow_the_rules_for_files(photo, form, expected):
    np.testing.assert_array_equal(pixels(encoded_image(form(photo))), expected(photo))


def test_a_pil_image_and_its_array_are_the_same(odd_images):
    for kind in ("grey", "rgba", "16-bit"):
        image = Image.open(io.BytesIO(odd_images[kind]))
        by_array = pixels(encoded_image(np.asarray(image)))
        np.testing.assert_array_equal(by_array, pixels(encoded_image(image)))


FOREIGN = {
    "GIF": {},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "JPEG2000": {},
    "PPM": {},
    "ICO": {"sizes": [(90, 120)]},
    "TGA": {},
    "HEIF": {"quality": -1, "chroma": 444},
}


@pytest.mark.parametrize(("file_format", "options"), FOREIGN.items(), ids=FOREIGN.keys())
def test_formats_that_servers_do_not_know_travel_as_pixels(photo, encode, tmp_path, file_format, options):
    if file_format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = encode(photo, file_format, **options)
    (tmp_path / "photo").write_bytes(data)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    for way in (data, tmp_path / "photo", io.BytesIO(data)):
        encoded = encoded_image(way)
        assert encoded[:2].tobytes() == b"BM"
        np.testing.assert_array_equal(pixels(encoded), np.asarray(image))


def test_of_an_animation_the_first_frame_is_taken_and_said(photo, encode, tmp_path, caplog):
    frames = [Image.fromarray(photo), Image.fromarray(255 - photo)]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    first = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(pixels(encoded_image(path)), first)
    assert "moving.gif has 2 frames, the first is taken" in caplog.text


def test_a_missing_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'sapiens-triton\[heif\]'"):
        encoded_image(b"\0\0\0\x1cftypheic" + bytes(200))


@pytest.mark.parametrize("file_format", ["GIF", "AVIF", "JPEG2000", "PPM"])
def test_truncated_foreign_files_are_refused(photo, encode, file_format):
    data = encode(photo, file_format)
    with pytest.raises(InvalidInputError, match="bytes must be a complete image file"):
        encoded_image(data[: len(data) // 2])


def test_what_nobody_knows_is_left_to_the_server():
    assert encoded_image(b"no image").tobytes() == b"no image"


def mistyped(photo: np.ndarray) -> Image.Image:
    """Orientation 6, and one tag of another type than it should have."""
    entries = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) + struct.pack("<HHII", 0x128, 5, 1, 38)
    tiff = b"II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4) + struct.pack("<II", 72, 1)
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", exif=b"Exif\0\0" + tiff)
    return Image.open(io.BytesIO(file.getvalue()))


def test_a_mistyped_tag_beside_the_orientation_does_no_harm(photo):
    assert pixels(encoded_image(mistyped(photo[:60]))).shape == (90, 60, 3)


def closed(photo: np.ndarray, tmp_path: Path) -> Image.Image:
    Image.fromarray(photo).save(tmp_path / "closed.png")
    with Image.open(tmp_path / "closed.png") as image:
        return image


def test_a_pil_image_after_its_with_block_is_refused_in_words(photo, tmp_path):
    with pytest.raises(InvalidInputError, match=r"readable pixels, got .*; use it inside its `with` block"):
        encoded_image(closed(photo, tmp_path))


@pytest.mark.parametrize(
    "error", [RuntimeError("requires grad"), TypeError("on a GPU"), KeyError(3), MemoryError()]
)
def test_whatever_reading_an_image_raises_is_an_error_of_the_tree(error):
    with pytest.raises(InvalidInputError, match=f"got a Tensor: {str(error) or 'MemoryError'}"):
        encoded_image(Tensor(error))


def test_what_reading_a_file_raises_is_an_error_of_the_tree():
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(ImageReadError, match=r"got a Broken: .*Input/output error"):
        encoded_image(Broken())
