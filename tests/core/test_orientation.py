"""Every place where a file may say which way up it is shown, by every way in which it may come."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sapiens_core.images.codec import decode_bgr
from sapiens_core.images.orientation import png_orientation
from sapiens_core.images.pil_pixels import rgb_pixels

TURNED = 6  # the camera was turned by 90 degrees
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks about damaged EXIF
XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
PLAIN_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def exif(
    *entries: tuple[int, int, bytes], order: str = "<", orientation: int | None = TURNED, kind: str = "H"
) -> bytes:
    """A block of EXIF without its head: further entries are (tag, type, four bytes)."""
    numbers = {"B": 1, "H": 3, "I": 4}
    own = (
        [(0x112, numbers[kind], struct.pack(order + kind, orientation).ljust(4, b"\0"))]
        if orientation is not None
        else []
    )
    every = sorted([*own, *entries])
    words = b"".join(struct.pack(order + "HHI", tag, number, 1) + value for tag, number, value in every)
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IH", 8, len(every)) + words + bytes(4)


def xmp(orientation: int = TURNED, *, as_element: bool = False) -> bytes:
    inside = (
        f"><tiff:Orientation>{orientation}</tiff:Orientation>"
        if as_element
        else f' tiff:Orientation="{orientation}">'
    )
    return f'<x:xmpmeta><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{inside}'.encode()


EXIF = b"Exif\0\0" + exif()
SEGMENTS = {
    "EXIF": [EXIF],
    "EXIF, big-endian": [b"Exif\0\0" + exif(order=">")],
    "EXIF, a byte": [b"Exif\0\0" + exif(kind="B")],
    "EXIF, a long": [b"Exif\0\0" + exif(kind="I", order=">")],
    "EXIF with a tag of a wrong type": [b"Exif\0\0" + exif((0x128, 5, struct.pack("<I", 38)))],
    "EXIF with a tag out of the block": [b"Exif\0\0" + exif((0x10F, 2, struct.pack("<I", 9999)))],
    "XMP before EXIF": [XMP_HEAD + PLAIN_XMP, EXIF],
    "XMP that disagrees, before EXIF": [XMP_HEAD + xmp(3), EXIF],
    "EXIF before XMP": [EXIF, XMP_HEAD + PLAIN_XMP],
    "other things before EXIF": [b"anything\0" + bytes(40), EXIF],
    "EXIF in two segments": [EXIF[:30], b"Exif\0\0" + EXIF[30:]],
    "XMP alone": [XMP_HEAD + xmp()],
    "XMP alone, an element": [XMP_HEAD + xmp(as_element=True)],
    "XMP beside EXIF that says nothing": [
        b"Exif\0\0" + exif((0x128, 3, b"\2\0\0\0"), orientation=None),
        XMP_HEAD + xmp(),
    ],
}
UPRIGHT_SEGMENTS = {
    "none": [],
    "EXIF of 0": [b"Exif\0\0" + exif(orientation=0)],
    "EXIF of 9": [b"Exif\0\0" + exif(orientation=9)],
    "EXIF of 1 beside XMP": [b"Exif\0\0" + exif(orientation=1), XMP_HEAD + xmp()],
    "garbage": [b"Exif\0\0garbage"],
    "nothing": [b"Exif\0\0"],
    "a directory beyond the end": [b"Exif\0\0II*\0" + struct.pack("<I", 2**31)],
}


@pytest.fixture
def lying(photo) -> NDArray[np.uint8]:
    return photo[:60]


def by_file(data: bytes) -> NDArray[np.uint8]:
    return decode_bgr(np.frombuffer(data, np.uint8))[:, :, ::-1]


def by_pil(data: bytes) -> NDArray[np.uint8]:
    return rgb_pixels(Image.open(io.BytesIO(data)))


def by_loaded_pil(data: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(data))
    image.load()
    return rgb_pixels(image)


every_way = pytest.mark.parametrize("pixels", [by_file, by_pil, by_loaded_pil])


def jpeg(image: NDArray[np.uint8], segments: list[bytes]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    app1 = b"".join(b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content for content in segments)
    return file.getvalue()[:2] + app1 + file.getvalue()[2:]


def png(image: NDArray[np.uint8], name: bytes, content: bytes, *, is_behind: bool) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    data = file.getvalue()
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    place = len(data) - 12 if is_behind else 33
    return data[:place] + chunk + data[place:]


def profile(name: str, content: bytes) -> bytes:
    return f"\n{name}\n{len(content):8}\n{content.hex()}\n".encode()


CHUNKS = {
    "eXIf": (b"eXIf", exif()),
    "eXIf with a head": (b"eXIf", EXIF),
    "text": (b"tEXt", b"Raw profile type exif\0" + profile("exif", EXIF)),
    "packed text": (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile("exif", EXIF))),
    "XMP": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp()),
    "packed XMP": (b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0\0" + zlib.compress(xmp())),
}


@every_way
@pytest.mark.parametrize("segments", SEGMENTS.values(), ids=SEGMENTS.keys())
def test_a_jpeg_is_turned_wherever_it_says_so(lying, pixels, segments):
    assert pixels(jpeg(lying, segments)).shape == (90, 60, 3)


@every_way
@pytest.mark.parametrize("segments", UPRIGHT_SEGMENTS.values(), ids=UPRIGHT_SEGMENTS.keys())
def test_a_jpeg_that_says_nothing_useful_stays(lying, pixels, segments):
    assert pixels(jpeg(lying, segments)).shape == (60, 90, 3)


@every_way
@pytest.mark.parametrize("is_behind", [False, True], ids=["before the pixels", "behind the pixels"])
@pytest.mark.parametrize(("name", "content"), CHUNKS.values(), ids=CHUNKS.keys())
def test_a_png_is_turned_wherever_it_says_so(lying, pixels, name, content, is_behind):
    data = png(lying, name, content, is_behind=is_behind)
    np.testing.assert_array_equal(pixels(data), np.rot90(lying, -1))


@every_way
@pytest.mark.parametrize(
    "content",
    [
        b"Raw profile type exif\0\0garbage",
        b"Raw profile type exif\0\0" + zlib.compress(b"\n\n\nxyz"),
        b"none",
    ],
)
def test_a_png_with_damaged_text_stays(lying, pixels, content):
    np.testing.assert_array_equal(pixels(png(lying, b"zTXt", content, is_behind=False)), lying)


@every_way
@pytest.mark.parametrize(
    "options", [{"exif": EXIF}, {"exif": exif()}, {"xmp": xmp()}, {"xmp": xmp(), "exif": EXIF}]
)
def test_a_webp_is_turned_wherever_it_says_so(lying, encode, pixels, options):
    data = encode(lying, "WEBP", lossless=True, **options)
    np.testing.assert_array_equal(pixels(data), np.rot90(lying, -1))


@every_way
@pytest.mark.parametrize(
    "tags", [{274: TURNED}, {700: xmp()}, {274: 1, 700: xmp()}], ids=["tag", "XMP", "tag that says no"]
)
def test_a_tiff_is_turned_wherever_it_says_so(lying, encode, pixels, tags):
    expected = lying if tags.get(274) == 1 else np.rot90(lying, -1)
    np.testing.assert_array_equal(pixels(encode(lying, "TIFF", tiffinfo=tags)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_every_orientation_is_undone(photo, encode, file_format, orientation):
    tag = Image.Exif()
    tag[0x112] = orientation
    data = encode(photo, file_format, exif=tag, **({"lossless": True} if file_format == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    tolerance = 8 if file_format in ("JPEG", "MPO") else 0
    np.testing.assert_allclose(by_file(data), expected, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(by_pil(data), expected)


@pytest.mark.parametrize("name", ["EXIF", "XMP before EXIF", "XMP that disagrees, before EXIF", "XMP alone"])
def test_a_pil_image_that_was_turned_before_is_not_turned_again(lying, name):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg(lying, SEGMENTS[name]))))
    np.testing.assert_array_equal(rgb_pixels(image), np.asarray(image))


def test_a_pil_image_says_by_its_own_tag_how_it_is_shown(lying):
    image = Image.fromarray(lying)
    image.getexif()[0x112] = TURNED
    np.testing.assert_array_equal(rgb_pixels(image), np.rot90(lying, -1))


def test_texts_of_a_png_share_one_limit_of_what_they_become():
    text = zlib.compress(b" " * 2**22)
    chunks = [(b"zTXt", b"XML:com.adobe.xmp\0\0" + text)] * 40
    tracemalloc.start()
    assert png_orientation(chunks) == 1
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()
