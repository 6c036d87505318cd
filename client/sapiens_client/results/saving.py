"""Results as files: which formats there are, how each is written, and one read back."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_client.results.exr import exr

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

ImageId: TypeAlias = "int | str | np.integer[Any]"
Writer: TypeAlias = "Callable[[Any, Path, ImageId], tuple[Path, ...]]"

_MAX_UINT16 = 2**16 - 1
_FACTS = "facts"  # name in an .npz of what the arrays are
_FACTS_FORMAT = 1  # goes up when `load` of before and after would not understand each other


def checked_id(number: object, name: str) -> int:
    """Return a whole number of whatever type as Python's own, which JSON takes.

    Raises:
        InvalidInputError: It is none.
    """
    if isinstance(number, int | np.integer) and not isinstance(number, bool):
        return int(number)
    raise InvalidInputError(f"{name} must be a whole number, got {number!r:.80} ({type(number).__name__})")


def checked_image_id(image_id: object) -> ImageId:
    """Return what COCO calls an image, in a type that JSON takes.

    Raises:
        InvalidInputError: It is neither a whole number nor a name.
    """
    return str(image_id) if isinstance(image_id, str) else checked_id(image_id, "image_id, unless a name,")


class Format(StrEnum):
    """How a result is kept in a file.

    Attributes:
        suffix: How the file's name ends.
        content: What is in it, in a few words.
        beside: How the names of further files end that belong to it.
    """

    suffix: str
    content: str
    beside: tuple[str, ...]

    def __new__(cls, value: str, suffix: str, content: str, *beside: str) -> Format:
        """Attach the facts to the name."""
        member = str.__new__(cls, value)
        member._value_, member.suffix, member.content, member.beside = value, suffix, content, beside
        return member

    PICTURE = "picture", ".png", "picture"
    JPG = "jpg", ".jpg", "picture as JPEG"
    NPY = "npy", ".npy", "the array as it is"
    NPZ = "npz", ".npz", "all arrays by name, and what they are"
    PNG16 = "png16", ".16.png", "16 bit, with scale and offset in a .json beside it", ".16.json"
    EXR = "exr", ".exr", "OpenEXR, 32-bit floats"
    PLY = "ply", ".ply", "points in metres, binary"
    GLB = "glb", ".glb", "points in metres as glTF"
    CUTOUT = "cutout", ".cutout.png", "the person with transparency"
    IDS = "ids", ".ids.png", "8-bit class ids"
    JSON = "json", ".json", "COCO results"
    OPENPOSE = "openpose", ".openpose.json", "keypoints as OpenPose writes them"
    PARQUET = "parquet", ".parquet", "of a video, a row per COCO result"


def format_of(name: str, offered: Iterable[Format]) -> Format:
    """Tell the format by the end of a file's name, the longest that fits.

    Raises:
        InvalidInputError: It is none of those offered.
    """
    offered = tuple(offered)
    usual = re.sub(r"\.jpe?g$", Format.JPG.suffix, name.lower())
    fitting = [form for form in Format if usual.endswith(form.suffix)]
    form = max(fitting, key=lambda form: len(form.suffix), default=None)
    if form not in offered:
        listed = ", ".join(f"{form.suffix} ({form.content})" for form in offered)
        raise InvalidInputError(f"file name must end in one of {listed}; got {name!r}")
    return form


def png(image: Image) -> bytes:
    """Encode a picture as a PNG file."""
    buffer = io.BytesIO()
    # The lowest level takes a quarter of the default's time for a third more bytes.
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name once it is complete: an interruption leaves no half of it.

    A file of that name is replaced then; until then the new one is hidden beside it.
    """
    target = Path(os.path.realpath(path))  # a link stays one
    draft = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(4)}.part")
    try:
        with draft.open("xb") as file:
            with suppress(FileNotFoundError):  # there is none to replace
                draft.chmod(stat.S_IMODE(target.stat().st_mode))
            yield file
        draft.replace(target)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if not target.parent.is_dir():
            reason = "the folder must exist, make it first"
            raise FileNotFoundError(errno.ENOENT, reason, str(path.parent)) from error
        if error.filename == str(draft):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_bytes(content: bytes, path: Path) -> tuple[Path, ...]:
    """Write a file whole, or not at all."""
    with _new_file(path) as file:
        file.write(content)
    return (path,)


def write_ids(class_map: NDArray[np.uint8], path: Path) -> tuple[Path, ...]:
    """Write (H, W) uint8 as 8-bit grey, one level per class."""
    import PIL.Image

    return write_bytes(png(PIL.Image.fromarray(class_map)), path)


def write_png16(values: NDArray[np.float32], path: Path) -> tuple[Path, ...]:
    """Write (H, W) float32 as 16-bit grey that spans exactly the range of the values.

    Raises:
        InvalidInputError: The values are not finite.
    """
    import PIL.Image

    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite(highest - lowest):
        raise InvalidInputError(
            f"depth must be finite to fit 16 bits, got {lowest} to {highest}; save it as .npy"
        )
    scale = (highest - lowest) / _MAX_UINT16 or 1.0
    levels = np.rint((values.astype(np.float64) - lowest) / scale).astype(np.uint16)
    sidecar = path.with_suffix(".json")
    with _new_file(path) as picture, _new_file(sidecar) as facts:
        picture.write(png(PIL.Image.fromarray(levels)))
        facts.write(_json_line({"scale": scale, "offset": lowest}))
        # An older picture goes first and the new one comes last: at no time one stands beside foreign facts.
        Path(os.path.realpath(path)).unlink(missing_ok=True)
    return path, sidecar


def write_exr(channels: Mapping[str, NDArray[np.float32]], path: Path) -> tuple[Path, ...]:
    """Write (H, W) float32 channels by name as OpenEXR."""
    return write_bytes(exr(channels), path)


def write_json(content: object, path: Path) -> tuple[Path, ...]:
    """Write plain data as a line of JSON."""
    return write_bytes(_json_line(content), path)


def _json_line(content: Any) -> bytes:
    return (json.dumps(content) + "\n").encode()


def _write_picture(result: Any, path: Path, _: ImageId) -> tuple[Path, ...]:
    return write_bytes(png(result.plot()), path)


def _write_jpg(result: Any, path: Path, _: ImageId) -> tuple[Path, ...]:
    buffer = io.BytesIO()
    result.plot().convert("RGB").save(buffer, format="JPEG")
    return write_bytes(buffer.getvalue(), path)


def _write_npy(result: Any, path: Path, _: ImageId) -> tuple[Path, ...]:
    (array,) = result.arrays().values()
    with _new_file(path) as file:
        np.save(file, array)
    return (path,)


def _write_npz(result: Any, path: Path, _: ImageId) -> tuple[Path, ...]:
    facts = json.dumps({"format": _FACTS_FORMAT, **result.facts()})
    with _new_file(path) as file:
        np.savez(file, **result.arrays(), **{_FACTS: np.array(facts)})
    return (path,)


def read_npz(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays of a result by name, read-only, and what they are, as `save` wrote them.

    Returns:
        Arrays such as "depth" (H, W), which the attributes of the results describe, and their facts.

    Raises:
        InvalidInputError: The file is none that `save` of this release understands.
        OSError: It cannot be read.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays: dict[str, NDArray[Any]] = dict(content)
        facts = json.loads(str(arrays.pop(_FACTS)))
        seen = facts["format"]
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            f"{str(path)!r} must be an .npz that `save` of a result wrote, got something else: {error}"
        ) from error
    if seen != _FACTS_FORMAT:
        raise InvalidInputError(
            f"{str(path)!r} must be of format {_FACTS_FORMAT}, got {seen!r:.20}; "
            "read it with the release of sapiens-triton that wrote it"
        )
    for array in arrays.values():
        array.flags.writeable = False
    return arrays, facts


def _write_coco(result: Any, path: Path, image_id: ImageId) -> tuple[Path, ...]:
    return write_json(result.to_coco(image_id=image_id), path)


SEVERAL_ARRAYS: Mapping[Format, Writer] = MappingProxyType(
    {Format.PICTURE: _write_picture, Format.JPG: _write_jpg, Format.NPZ: _write_npz}
)
ONE_ARRAY: Mapping[Format, Writer] = MappingProxyType({**SEVERAL_ARRAYS, Format.NPY: _write_npy})
COCO: Mapping[Format, Writer] = MappingProxyType({Format.JSON: _write_coco})
ARRAYS_AND_COCO: Mapping[Format, Writer] = MappingProxyType({**SEVERAL_ARRAYS, **COCO})
