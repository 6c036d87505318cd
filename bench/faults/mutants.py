"""Image files and requests that have been damaged in all the ways that come to a few dice."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
from PIL import Image
from tritonclient.grpc.service_pb2 import ModelInferRequest

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_NUMBERS = (-(2**63), -1, 0, 1, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)
_HEADER_BYTES = 64  # where most of what matters stands
_MAX_DAMAGES = 4

Damage = Callable[[np.random.Generator, bytearray], None]


def images() -> list[bytes]:
    """Return whole files of all formats that are read, of some kinds of pixels."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
    kinds: list[tuple[str, str, dict[str, object]]] = [
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True, "exif": _exif()}),
        ("CMYK", "JPEG", {}),
        ("RGB", "PNG", {}),
        ("P", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("RGB", "WEBP", {}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("RGB", "BMP", {}),
        ("P", "BMP", {}),
        ("RGB", "TIFF", {}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("L", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("1", "TIFF", {"compression": "group4"}),
    ]
    return [_file(colours.convert(mode), name, options) for mode, name, options in kinds]


def mutant(rng: np.random.Generator, whole: bytes, others: list[bytes]) -> bytes:
    """Return a damaged copy.

    Args:
        rng: The dice.
        whole: What to damage.
        others: Of which parts may get into it.
    """
    data = bytearray(whole)
    for _ in range(rng.integers(1, _MAX_DAMAGES + 1)):
        damage = _DAMAGES[rng.integers(len(_DAMAGES))]
        damage(rng, data)
    if rng.random() < 0.1:
        other = others[rng.integers(len(others))]
        place = _place(rng, data)
        data[place:] = other[place:]
    return bytes(data)


def odd_request(rng: np.random.Generator, whole: ModelInferRequest) -> bytes:
    """Return a request that is one, but asks for something odd."""
    request = ModelInferRequest.FromString(whole.SerializeToString())
    for _ in range(rng.integers(1, _MAX_DAMAGES + 1)):
        _ODDITIES[rng.integers(len(_ODDITIES))](rng, request)
    return bytes(request.SerializeToString())


def _shape(rng: np.random.Generator, request: ModelInferRequest) -> None:
    for tensor in request.inputs:
        tensor.shape[:] = [_NUMBERS[rng.integers(len(_NUMBERS))] for _ in range(rng.integers(0, 4))]


def _datatype(rng: np.random.Generator, request: ModelInferRequest) -> None:
    for tensor in request.inputs:
        tensor.datatype = ("BYTES", "FP32", "INT64", "BOOL", "", "UINT9")[rng.integers(6)]


def _contents(rng: np.random.Generator, request: ModelInferRequest) -> None:
    """Let bytes and tensors differ in number or size, or come in two ways."""
    odd = rng.integers(4)
    if odd == 0:
        request.raw_input_contents.append(rng.bytes(int(rng.integers(64))))
    elif odd == 1:
        del request.raw_input_contents[:]
    elif odd == 2 and request.inputs:
        request.inputs[0].contents.uint_contents.extend([1, 2, 3])
    elif request.raw_input_contents:
        request.raw_input_contents[0] = request.raw_input_contents[0][: int(rng.integers(8))]


def _names(rng: np.random.Generator, request: ModelInferRequest) -> None:
    name = ("", "image", "bboxes", "../image", "\0", "x" * 4096)[rng.integers(6)]
    if rng.random() < 0.3:
        request.outputs.add(name=name)
    elif rng.random() < 0.5:
        request.inputs.add(name=name, datatype="UINT8", shape=[1])
    elif request.inputs:
        request.inputs[0].name = name


def _parameters(rng: np.random.Generator, request: ModelInferRequest) -> None:
    """Ask for memory that nobody has registered, for a sequence, a priority, or something unheard of."""
    number = _NUMBERS[rng.integers(len(_NUMBERS))]
    name = ("sequence_id", "priority", "timeout", "sequence_start", "binary_data_size", "odd")[
        rng.integers(6)
    ]
    request.parameters[name].int64_param = number
    if request.inputs and rng.random() < 0.5:
        request.inputs[0].parameters["shared_memory_region"].string_param = "nobody"
        request.inputs[0].parameters["shared_memory_byte_size"].int64_param = number


_ODDITIES = (_shape, _shape, _datatype, _contents, _names, _parameters)


def _flip(rng: np.random.Generator, data: bytearray) -> None:
    for _ in range(rng.integers(1, 9)):
        data[_place(rng, data)] ^= 1 << int(rng.integers(8))


def _overwrite(rng: np.random.Generator, data: bytearray) -> None:
    """Write a number into the file that programs stumble over."""
    value = _EXTREMES[rng.integers(len(_EXTREMES))]
    layout = "<>"[rng.integers(2)] + ("B" if value < 2**8 else "H" if value < 2**16 else "I")
    number = struct.pack(layout, value)
    place = _place(rng, data)
    data[place : place + len(number)] = number


def _cut(rng: np.random.Generator, data: bytearray) -> None:
    del data[_place(rng, data) + 1 :]


def _lose(rng: np.random.Generator, data: bytearray) -> None:
    place = _place(rng, data)
    del data[place + 1 : place + 1 + int(rng.integers(1, 64))]


def _repeat(rng: np.random.Generator, data: bytearray) -> None:
    place, length = _place(rng, data), int(rng.integers(1, 256))
    data[place:place] = data[place : place + length]


def _fill(rng: np.random.Generator, data: bytearray) -> None:
    place, length = _place(rng, data), int(rng.integers(1, 64))
    data[place : place + length] = rng.bytes(length)


_DAMAGES: tuple[Damage, ...] = (_flip, _overwrite, _overwrite, _cut, _lose, _repeat, _fill)


def _place(rng: np.random.Generator, data: bytearray) -> int:
    """Return where to damage, half of the time in the header."""
    end = min(_HEADER_BYTES, len(data)) if rng.random() < 0.5 else len(data)
    return int(rng.integers(end))


def _file(image: Image.Image, name: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    return exif
