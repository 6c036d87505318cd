"""PIL images to the pixels that they show: upright, without alpha, in 8 bits."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sapiens_core.contract.limits import check_size
from sapiens_core.images.orientation import EXIF_ORIENTATION, XMP_HEAD, known_orientation, upright

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS, _COMPRESSION, _PHOTOMETRIC, _NUM_SAMPLES, _PLANAR = 258, 259, 262, 277, 284
_EXTRA_SAMPLES, _SAMPLE_FORMAT = 338, 339
_RGB, _NUM_COLOURS, _APART, _DEEP = 2, 3, 2, 16
_UNSIGNED, _FLOAT, _UNDEFINED = 1, 3, 4
_SAMPLE_FORMATS = {2: "numbers with a sign", _FLOAT: "floats", 5: "complex numbers", 6: "complex floats"}
_SAMPLE_BITS = (1, 2, 4, 8, 12, 16)
_MAX_SHOWN = 6  # numbers of a tag; a damaged file may have millions
_COMPRESSIONS = {
    1: "none",
    5: "LZW",
    6: "old JPEG",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    **dict.fromkeys((2, 3, 4, 32771), "fax"),
    **dict.fromkeys((32809, 34676, 34677), "rare"),
}
_OTHER_COMPRESSIONS = {
    **dict.fromkeys((33003, 33005, 34712), "JPEG 2000"),
    34887: "LERC",
    34892: "lossy JPEG",
    34933: "PNG",
    34934: "JPEG XR",
    50002: "JPEG XL",
}
_WHITE_IS_0 = 0
_PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}
_XMP_IN_INFO = ("xmp", "XML:com.adobe.xmp")
# What Pillow raises about damaged EXIF, or about that of a file that was closed.
_EXIF_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    struct.error,
)


def rgb_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return what a PIL image shows; the first frame, if it has several.

    Args:
        image: Of any mode whose pixels are colours or levels.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: It is too large, or of a mode that is none of colours. Pillow raises further errors.
    """
    check_size(*image.size)
    tags = getattr(image, "tag_v2", {})
    check_samples(tags)
    _check_planes(tags)
    image.load()
    if image.mode == "F":
        raise ValueError(
            f"image must have integer pixels, got mode {image.mode!r}; scale them to 0..255 and convert('L')"
        )
    if image.mode.startswith("I"):
        flat = _levels(np.asarray(image), image.mode, tags)
        pixels = np.repeat(flat[:, :, None], 3, axis=2)
    else:
        pixels = np.asarray(_colours(image))
    return upright(pixels, _orientation(image))


def grey_levels(image: Image.Image) -> Image.Image:
    """Return a grey image in 8 bits, mode "L", as it lies in the file: not turned upright.

    Args:
        image: Of one channel, of a size within the limits.

    Raises:
        Exception: Pillow's own, about a damaged file.
    """
    image.load()
    if image.mode.startswith("I"):
        return Image.fromarray(_levels(np.asarray(image), image.mode, getattr(image, "tag_v2", {})))
    return image.convert("L")


def check_samples(tags: Mapping[int, Any]) -> None:
    """Refuse a TIFF whose samples are not read, or would be read wrongly.

    Args:
        tags: Of its first directory; none: it is no TIFF.

    Raises:
        ValueError: It is one; with what it has.
    """
    bits, formats = samples(tags, _BITS) or (1,), samples(tags, _SAMPLE_FORMAT)
    advice = "scale its values to 0..255 and save them as 8-bit TIFF or PNG"
    if odd := [each for each in formats if each not in (_UNSIGNED, _UNDEFINED)]:
        kind = _SAMPLE_FORMATS.get(odd[0], f"sample format {odd[0]}")
        raise ValueError(f"TIFF must have unsigned integers, got {kind} of {bits[0]} bits; {advice}")
    if any(each not in _SAMPLE_BITS for each in bits) or len(set(bits)) > 1:
        raise ValueError(
            f"TIFF must have 1, 2, 4, 8, 12 or 16 bits a sample, got {listed(bits)} bits; {advice}"
        )
    if tags.get(_COMPRESSION, 1) not in _COMPRESSIONS:
        raise ValueError(
            f"TIFF must have a common compression, got {compression(tags)}; "
            "save it again with deflate or LZW, or as PNG"
        )


def compression(tags: Mapping[int, Any]) -> str:
    """Return number and name of a TIFF's compression."""
    number = tags.get(_COMPRESSION, 1)
    name = _COMPRESSIONS.get(number) or _OTHER_COMPRESSIONS.get(number, "unknown")
    return f"{number} ({name})"


def _check_planes(tags: Mapping[int, Any]) -> None:
    """Refuse a TIFF that Pillow reads wrongly without a word; `sapiens_core.images.tiff` reads it."""
    if tags.get(_PLANAR) != _APART or tags.get(_NUM_SAMPLES, 1) == 1:
        return
    has_unnamed = tags.get(_NUM_SAMPLES, 1) > _NUM_COLOURS and not samples(tags, _EXTRA_SAMPLES)
    if _DEEP in samples(tags, _BITS) or (has_unnamed and tags.get(_PHOTOMETRIC) == _RGB):
        raise ValueError(
            "TIFF with its colours apart must be passed as a file, got a PIL image, whose pixels are wrong; "
            "pass the path or the bytes"
        )


def samples(tags: Mapping[int, Any], tag: int) -> tuple[int, ...]:
    """Return the numbers of a tag, of which Pillow unpacks a single one; without the tag none."""
    value = tags.get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def listed(numbers: tuple[int, ...]) -> str:
    """Return the numbers of a tag for a message."""
    return ", ".join([*map(str, numbers[:_MAX_SHOWN]), *["..."] * (len(numbers) > _MAX_SHOWN)])


def _levels(levels: NDArray[Any], mode: str, tags: Mapping[int, Any]) -> NDArray[np.uint8]:
    """Return (H, W) uint8 as OpenCV makes it of 16 bits, which PIL may hold in the 32 of mode "I"."""
    (bits, *_) = samples(tags, _BITS) or (16,)
    if mode != "I" or levels.max(initial=0) > np.iinfo(np.uint8).max:
        levels = levels >> (bits - 8 if 8 < bits < 16 else 8)
    flat = np.clip(levels, 0, 255).astype(np.uint8)
    return np.invert(flat) if tags.get(_PHOTOMETRIC) == _WHITE_IS_0 else flat


def _colours(image: Image.Image) -> Image.Image:
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    if image.mode in ("P", "PA"):  # PIL warns when it drops a palette's transparency, not when it drops alpha
        image = image.convert("RGBA")
    if image.mode == "LAB":
        from PIL import ImageCms  # here, because it is seldom needed

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image
    return image if image.mode == "RGB" else image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Return the orientation that an image still has to be turned by."""
    with suppress(*_EXIF_ERRORS):
        (found, *_) = samples(image.getexif(), EXIF_ORIENTATION)
        return int(found)
    exif = image.info.get("exif", b"")
    return known_orientation(exif if isinstance(exif, bytes) else b"", _xmp_of(image))


def _xmp_of(image: Image.Image) -> Iterator[bytes]:
    packets = [image.info[name] for name in _XMP_IN_INFO if name in image.info]
    if not packets:  # before Pillow 11
        segments = getattr(image, "applist", ())
        packets = [content for _, content in segments if content.startswith(XMP_HEAD)]
    for packet in packets:
        yield packet.encode() if isinstance(packet, str) else packet
