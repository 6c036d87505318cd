import contextlib
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from sapiens_core.contract.limits import LIMITS
from sapiens_core.images.codec import decode_bgr
from sapiens_core.images.header import checked_header, num_pixels

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decoded(data: bytes) -> np.ndarray:
    return decode_bgr(np.frombuffer(data, np.uint8))


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_bomb(width: int, height: int) -> bytes:
    """A small file that claims to be a large picture."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG_SIGNATURE + header + png_chunk(b"IDAT", zlib.compress(bytes(10_000))) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_every_format_decodes_like_opencv(file_format, photo, encode):
    data = encode(photo, file_format)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded(data), expected)


def test_lossless_files_give_their_pixels_in_bgr_order(photo, encode):
    np.testing.assert_array_equal(decoded(encode(photo)), photo[:, :, ::-1])


def test_exif_orientation_is_applied(odd_images):
    assert decoded(odd_images["exif-rotated"]).shape == (100, 40, 3)


def test_grey_becomes_three_equal_channels(odd_images):
    image = decoded(odd_images["grey"])
    assert image.shape == (77, 55, 3)
    assert (image == image[:, :, :1]).all()


def test_alpha_is_dropped_not_blended(photo, encode):
    transparent = np.dstack([photo, np.zeros(photo.shape[:2], np.uint8)])
    np.testing.assert_array_equal(decoded(encode(transparent)), photo[:, :, ::-1])


def test_sixteen_bits_become_eight(encode):
    deep = np.array([[0, 256, 65535]], np.uint16)
    assert decoded(encode(Image.fromarray(deep)))[0, :, 0].tolist() == [0, 1, 255]


def test_cmyk_becomes_rgb(odd_images):
    assert decoded(odd_images["cmyk"]).shape == (64, 48, 3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("tail", [b"\0", b"PK\3\4" + bytes(range(256)), b"\xff" * 40, b"IDAT" * 5])
def test_what_is_behind_the_end_of_a_file_changes_nothing(file_format, tail, photo, encode):
    data = encode(photo, file_format)
    np.testing.assert_array_equal(decoded(data + tail), decoded(data))


def test_a_jpeg_of_twelve_bits_is_called_so(photo, encode):
    data = bytearray(encode(photo, "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(ValueError, match="8 bits a sample, got 12 bits; save it again"):
        decoded(bytes(data))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(file_format, share, photo, encode):
    data = encode(photo, file_format)
    with pytest.raises(ValueError, match="complete file"):
        decoded(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"", "0 bytes"),
        (b"hello world", "hello world"),
        (b"\xff\xd8\xff", "damaged|start"),
        (b"GIF89a" + bytes(20), "GIF89a"),
    ],
    ids=["empty", "text", "three bytes of jpeg", "gif"],
)
def test_what_is_no_image_is_refused_with_what_was_seen(data, seen):
    with pytest.raises(ValueError, match=seen):
        decoded(data)


@pytest.mark.parametrize(
    ("width", "height"), [(30_000, 30_000), (9_000, 9_000), (LIMITS.max_image_side + 1, 1)]
)
def test_a_bomb_is_refused_by_its_header(width, height):
    with pytest.raises(ValueError, match=f"at most {LIMITS.max_image_pixels} pixels"):
        decoded(png_bomb(width, height))


def test_a_png_chunk_that_claims_more_than_the_file_is_refused_before_memory_is_taken(photo, encode):
    data = bytearray(encode(photo))
    data[data.index(b"IDAT") - 4 : data.index(b"IDAT")] = struct.pack(">I", 2**31 - 100)
    with pytest.raises(ValueError, match=r"IDAT.*2147483548 bytes"):
        decoded(bytes(data))


def test_a_tiff_of_few_pixels_but_huge_tiles_is_refused_by_its_header():
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 14_000, 323: 14_000, 324: 200, 325: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(200)
    with pytest.raises(ValueError, match="got 14000 x 14000"):
        decoded(data)


def test_damaged_exif_of_a_webp_is_no_exif(photo, encode):
    data = encode(photo, "WEBP", lossless=True, exif=b"garbage garbage")
    np.testing.assert_array_equal(decoded(data)[:, :, ::-1], photo)


def test_a_png_of_countless_chunks_is_refused(photo, encode):
    data = encode(photo)
    with pytest.raises(ValueError, match="at most 131072 chunks"):
        decoded(data[:33] + png_chunk(b"tEXt", b"") * 2**17 + data[33:])


def test_too_many_bytes_are_refused():
    with pytest.raises(
        ValueError, match=f"at most {LIMITS.max_image_bytes} bytes, got {LIMITS.max_image_bytes + 1}"
    ):
        decode_bgr(np.zeros(LIMITS.max_image_bytes + 1, np.uint8))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks about EXIF data
def test_damaged_headers_raise_nothing_but_value_errors(photo, encode):
    rng = np.random.default_rng(0)
    for file_format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF"):
        clean = np.frombuffer(encode(photo, file_format), np.uint8)
        for _ in range(60):
            data = clean.copy()
            data[rng.integers(0, 60, 4)] = rng.integers(0, 256, 4)
            with contextlib.suppress(ValueError):
                assert decode_bgr(data).dtype == np.uint8


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_header_is_read_without_a_copy_of_the_file(suffix):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    file = cv2.imencode(suffix, noise)[1]
    assert num_pixels(file) == 1500 * 1500  # Pillow is loaded
    tracemalloc.start()
    checked_header(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(file) / 10
