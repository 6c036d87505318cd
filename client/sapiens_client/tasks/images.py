"""Whatever callers have as an image, to the bytes of an image file.

Files travel as they are, those of formats that servers do not read as pixels. Pixels travel as BMP: lossless,
and written as fast as memory is copied.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias, runtime_checkable

import numpy as np

from sapiens_client.deadline import MAX_TIMEOUT_S
from sapiens_client.errors import ImageNotFoundError, ImageReadError, InvalidInputError, SapiensError
from sapiens_client.tasks.fetch import fetched, without_secrets
from sapiens_core.contract.limits import LIMITS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sapiens_client.connection.options import ChannelOrder


class ArrayLike(Protocol):
    """What numpy makes an array of: tensors, for one."""

    def __array__(self) -> NDArray[Any]:
        """Return the array."""
        ...


@runtime_checkable
class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


ImageLike: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | _Readable | Image | NDArray[Any] | ArrayLike"
)
"""What the client takes as an image: path or URL of a file; its bytes, or it open; a PIL image; an array.

Arrays are (H, W, 3) uint8 RGB, or others that `docs/client.md` names. Photographs are turned upright.
"""

# Names of the files that are read: those that servers know, and those that become pixels here.
IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for names in (
        ("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "bmp", "dib", "tif", "tiff"),
        ("gif", "avif", "heic", "heif", "hif", "jp2", "j2k", "jpx", "jpf", "jpc"),
        ("ppm", "pgm", "pbm", "pnm", "ico", "tga", "qoi", "psd"),
    )
    for name in names
)
_URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+://|data:[a-z]+/")
_LEVELS = 255
_MAX_CHANNELS = 4
_COLOURS = (3, 4)  # channels; fewer are levels of grey, and one more is alpha
_MAX_AXES = 3


def encoded_image(
    image: ImageLike, channel_order: ChannelOrder = "rgb", timeout_s: float = MAX_TIMEOUT_S
) -> NDArray[np.uint8]:
    """Return an image as (B,) uint8, the bytes of an image file.

    Args:
        image: Path of an image file, or its http(s) URL, which is fetched; its bytes, or an open binary file,
            which is read from its start; a PIL image; or an array of uint8, uint16 or bool, also of another
            library: (H, W) grey, or (H, W, C) with grey, grey and alpha, RGB, or RGB and alpha. Pixels become
            those that decoding their file gives: upright, without alpha, 8 bit. Of an animation the first
            frame counts.
        channel_order: Of an array with colours.
        timeout_s: How long fetching may take. [s]

    Raises:
        InvalidInputError: The image is empty, too large, of another type, an array of another form, or no
            regular file.
        ImageNotFoundError: There is no file at the path.
        ImageReadError: The file cannot be read.
    """
    try:
        return _encoded(image, channel_order, timeout_s)
    except SapiensError:
        raise
    except OSError as error:
        raise ImageReadError(f"image must be readable, got {_shown(image)}: {error}") from error
    except Exception as error:  # callers' objects and PIL raise anything
        words = str(error) or type(error).__name__
        raise InvalidInputError(f"image must be readable, got {_shown(image)}: {words}") from error


def _shown(image: object) -> str:
    if isinstance(image, str) and _URL.match(image):
        return repr(without_secrets(image))
    return f"{image!r:.200}" if isinstance(image, str | os.PathLike) else f"a {type(image).__name__}"


def _encoded(image: ImageLike, channel_order: ChannelOrder, timeout_s: float) -> NDArray[np.uint8]:
    if isinstance(image, str) and _URL.match(image):
        return _sent(fetched(image, timeout_s), without_secrets(image))
    if isinstance(image, str | os.PathLike):
        with _opened(Path(image)) as file:
            _check_num_bytes(os.fstat(file.fileno()).st_size)
            return _sent(file.read(), str(image))
    if isinstance(image, bytes | bytearray | memoryview):
        _check_num_bytes(memoryview(image).nbytes)
        return _sent(image if isinstance(image, bytes) else bytes(image), "bytes")
    if isinstance(image, np.ndarray):
        return _bmp(_rgb_levels(image, channel_order))
    if isinstance(image, _Readable):
        return _sent(_read(image), f"a {type(image).__name__}")
    return _bmp(_rgb_pixels(image, channel_order))


def _sent(content: bytes, name: str) -> NDArray[np.uint8]:
    """Return the bytes of a file, or of a BMP in its place if servers do not know its format."""
    from sapiens_client.tasks.conversion import foreign_pixels

    _check_num_bytes(len(content))
    pixels = foreign_pixels(content, name)
    return np.frombuffer(content, np.uint8) if pixels is None else _bmp(pixels)


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


def _read(file: Any) -> bytes:
    """Read an open file from its start, as PIL does: who wrote it into memory just now stands at its end."""
    if hasattr(file, "seekable") and file.seekable():
        file.seek(0)
    content = file.read(LIMITS.max_image_bytes + 1)
    if not isinstance(content, bytes):
        raise InvalidInputError(
            f"image file must be open for bytes, got {type(content).__name__} from it; open it with mode 'rb'"
        )
    return content


def _bmp(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from sapiens_core.images.bmp import encode_bmp

    try:
        return encode_bmp(pixels)
    except ValueError as error:
        raise InvalidInputError(str(error)) from error


def _rgb_pixels(image: Any, channel_order: ChannelOrder) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB, the pixels that the server would decode from the file of a PIL image."""
    import PIL.Image

    from sapiens_core.images.pil_pixels import rgb_pixels

    if not isinstance(image, PIL.Image.Image):
        if hasattr(image, "__array__"):
            return _rgb_levels(np.asarray(image), channel_order)
        raise InvalidInputError(
            "image must be a path, bytes, an open file, a PIL image or an (H, W, 3) array, "
            f"got {type(image).__name__}"
        )
    try:
        return rgb_pixels(image)
    except ValueError as error:
        raise InvalidInputError(str(error)) from error
    except Exception as error:  # PIL raises anything about pixels that are gone
        raise InvalidInputError(
            f"image must have readable pixels, got {image!r}: {str(error) or type(error).__name__}; "
            "use it inside its `with` block, or pass the path"
        ) from error


def _rgb_levels(array: NDArray[Any], channel_order: ChannelOrder) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 RGB by the rules for files: alpha is dropped, 16 bits become 8."""
    if advice := _advice(array):
        raise InvalidInputError(
            "image must be (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16, "
            f"got {array.shape} {array.dtype}; pass {advice}"
        )
    if array.dtype == bool:
        array = array * np.uint8(_LEVELS)
    elif array.dtype != np.uint8:
        array = (array >> 8).astype(np.uint8)
    if array.ndim == _MAX_AXES and array.shape[2] in _COLOURS:
        return array[:, :, 2::-1] if channel_order == "bgr" else array[:, :, :3]
    grey = array if array.ndim < _MAX_AXES else array[:, :, 0]
    return np.repeat(grey[:, :, None], 3, axis=2)


def _advice(array: NDArray[Any]) -> str:
    """Return what makes an image of an array that is none; empty: it is one."""
    shape, steps = array.shape, ""
    if len(shape) == _MAX_AXES + 1:
        shape, steps = shape[1:], "[0]"
    if len(shape) == _MAX_AXES and shape[2] > _MAX_CHANNELS >= shape[0]:
        steps += ".transpose(1, 2, 0)"
    elif len(shape) not in (_MAX_AXES - 1, _MAX_AXES) or (
        len(shape) == _MAX_AXES and shape[2] > _MAX_CHANNELS
    ):
        return "an array of pixels"
    name = f"image{steps}"
    if array.dtype.kind == "f":
        return f"(255 * {name}).round().clip(0, 255).astype('uint8') if its values are 0..1"
    if array.dtype.type not in (np.uint8, np.uint16, np.bool_):
        return f"{name}.astype('uint8') if its values are 0..255"
    several = ", or each to `map`" if array.ndim > _MAX_AXES and array.shape[0] > 1 else ""
    return f"{name}{several}" if steps else ""
