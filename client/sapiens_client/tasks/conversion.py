"""Files of formats that servers do not know, to pixels: what phones and the web make."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

from sapiens_client.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LOGGER = logging.getLogger("sapiens_client")

# How the files begin that travel as they are.
_KNOWN = (b"\xff\xd8", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WEBP = (b"RIFF", b"WEBP")
_BRAND_AT, _BRAND_BOX = 8, b"ftyp"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_CERTAIN = (b"GIF8", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"8BPS", b"qoif")
_MAX_HEAD_BYTES = 64
# Not EPS and its kin, which run programs.
_FORMATS = ("GIF", "AVIF", "HEIF", "JPEG2000", "PPM", "ICO", "ICNS", "QOI", "PSD", "PCX", "SGI", "DDS", "TGA")


def foreign_pixels(content: bytes, name: str) -> NDArray[np.uint8] | None:
    """Decode a file that servers do not know.

    Args:
        content: The bytes of the file.
        name: What messages call it.

    Returns:
        (H, W, 3) uint8 RGB, of an animation the first frame. None: the file may travel as it is, be it that
        servers know its format or that nobody does.

    Raises:
        InvalidInputError: It is damaged, too large, or a package is missing.
    """
    if content.startswith(_KNOWN) or (content[:4], content[8:12]) == _WEBP:
        return None
    import PIL.Image

    from sapiens_core.images.pil_pixels import rgb_pixels

    _prepare(content[:_MAX_HEAD_BYTES])
    try:
        formats = [each for each in _FORMATS if each in _registered()]
        with PIL.Image.open(io.BytesIO(content), formats=formats) as image:
            if (num_frames := getattr(image, "n_frames", 1)) > 1:
                _LOGGER.warning("%s has %d frames, the first is taken", name, num_frames)
            return rgb_pixels(image)
    except PIL.UnidentifiedImageError as error:
        if content.startswith(_CERTAIN) or content[4:8] == _BRAND_BOX:
            raise InvalidInputError(
                f"{name} must be a complete image file, got {len(content)} bytes starting with "
                f"{content[:12]!r}; save it as PNG or JPEG"
            ) from error
        return None
    except Exception as error:  # PIL's plugins raise anything about damaged files
        words = str(error) or type(error).__name__
        raise InvalidInputError(
            f"{name} must be a complete image file, got {words}; save it as PNG or JPEG"
        ) from error


def _registered() -> frozenset[str]:
    import PIL.Image

    PIL.Image.init()
    return frozenset(PIL.Image.OPEN)


def _prepare(head: bytes) -> None:
    """Have the plugin for a file, or say where it comes from.

    Raises:
        InvalidInputError: It is not installed.
    """
    if head[4:8] != _BRAND_BOX:
        return
    brands = {head[at : at + 4] for at in range(_BRAND_AT, len(head) - 3, 4)}
    if brands.intersection(_AVIF_BRANDS):
        if "AVIF" not in _registered():
            raise InvalidInputError(
                "AVIF needs Pillow 11.3 or later, got an older one or one without AVIF; "
                "pip install --upgrade pillow, or save the image as PNG"
            )
    elif brands.intersection(_HEIF_BRANDS):
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise InvalidInputError(
                "HEIC needs a package of its own, which is not installed; "
                "pip install 'sapiens-triton[heif]', or save the image as JPEG"
            ) from error
        register_heif_opener()
