"""Whatever callers have as an image, to the bytes of an image file.

Files travel as they are. Pixels travel as BMP: lossless, and written as fast as memory is copied.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np

from sapiens_client.errors import ImageNotFoundError, ImageReadError, InvalidInputError
from sapiens_core.limits import LIMITS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image | NDArray[np.uint8]"


def encoded_image(image: ImageLike) -> NDArray[np.uint8]:
    """Return an image as (B,) uint8, the bytes of an image file.

    Args:
        image: Path of an image file, the bytes of one, a PIL image, or an (H, W, 3) uint8 array in RGB order.
            Pixels of a PIL image become those that decoding its file gives: upright, without alpha, 8 bit.

    Raises:
        InvalidInputError: The image is empty, too large, of another type, an array of another form, or no
            regular file.
        ImageNotFoundError: There is no file at the path.
        ImageReadError: The file cannot be read.
    """
    if isinstance(image, bytes):
        _check_num_bytes(len(image))
        return np.frombuffer(image, np.uint8)
    if isinstance(image, str | os.PathLike):
        with _opened(Path(image)) as file:
            _check_num_bytes(os.fstat(file.fileno()).st_size)
            return np.frombuffer(file.read(), np.uint8)
    return _bmp(image if isinstance(image, np.ndarray) else _rgb_pixels(image))


def _check_num_bytes(num_bytes: int) -> None:
    if num_bytes == 0:
        raise InvalidInputError(
            f"image must have content, got {num_bytes} bytes; pass the bytes of an image file"
        )
    if num_bytes > LIMITS.max_image_bytes:
        raise InvalidInputError(
            f"image must have at most {LIMITS.max_image_bytes} bytes, got {num_bytes}; save it as JPEG"
        )


def _opened(path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):  # looked at first, because opening a pipe waits for whoever writes into it
            return path.open("rb")
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"image file must exist, got {str(path)!r}; check the path") from error
    except (OSError, ValueError) as error:
        raise ImageReadError(f"image file must be readable, got {str(path)!r}: {error}") from error
    if stat.S_ISDIR(mode):
        raise InvalidInputError(f"image must be a file, got the folder {str(path)!r}; pass its files")
    raise InvalidInputError(
        f"image must be a regular file, got the pipe or device {str(path)!r}; "
        "read it and pass the bytes, or write it to a file"
    )


def _bmp(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from sapiens_core.bmp import encode_bmp

    try:
        return encode_bmp(pixels)
    except ValueError as error:
        raise InvalidInputError(str(error)) from error


def _rgb_pixels(image: Image) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB, the pixels that the server would decode from the file of a PIL image."""
    import PIL.Image

    from sapiens_core.pil_pixels import rgb_pixels

    if not isinstance(image, PIL.Image.Image):
        raise InvalidInputError(
            f"image must be a path, bytes, a PIL image or an (H, W, 3) array, got {type(image).__name__}"
        )
    try:
        return rgb_pixels(image)
    except ValueError as error:
        raise InvalidInputError(str(error)) from error
    except Exception as error:
        raise InvalidInputError(
            f"image must have readable pixels, got {image!r}: {error or type(error).__name__}; "
            "use it inside its `with` block, or pass the path"
        ) from error
