"""OpenEXR files of 32-bit floats, as compositing and 3D programs read them.

Source: "OpenEXR File Layout", https://openexr.com/en/latest/OpenEXRFileLayout.html. OpenCV writes them only
where an environment variable allowed it before its first use.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC, _VERSION = 20000630, 2
_FLOAT = 2  # pixel type
_ZIP, _LINES_PER_CHUNK = 3, 16


def exr(channels: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Encode an image, losslessly compressed.

    Args:
        channels: (H, W) float32 each, by name: "Y" for grey, "R", "G", "B" for colours.
    """
    names = sorted(channels)  # the order that the format asks for
    lines = np.stack([channels[name] for name in names], axis=1).astype("<f4", copy=False)  # (H, channels, W)
    chunks = [
        struct.pack("<ii", start, len(data)) + data
        for start in range(0, len(lines), _LINES_PER_CHUNK)
        for data in [_compressed(lines[start : start + _LINES_PER_CHUNK].tobytes())]
    ]
    head = struct.pack("<ii", _MAGIC, _VERSION) + b"".join(_attributes(names, lines.shape)) + b"\0"
    starts = len(head) + 8 * len(chunks) + np.cumsum([0, *map(len, chunks[:-1])])
    return b"".join([head, starts.astype("<u8").tobytes(), *chunks])


def _attributes(names: list[str], shape: tuple[int, ...]) -> Iterator[bytes]:
    height, _, width = shape
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    channels = [_text(name) + struct.pack("<iB3xii", _FLOAT, 0, 1, 1) for name in names]
    yield _attribute("channels", "chlist", b"".join(channels) + b"\0")
    yield _attribute("compression", "compression", bytes([_ZIP]))
    yield _attribute("dataWindow", "box2i", window)
    yield _attribute("displayWindow", "box2i", window)
    yield _attribute("lineOrder", "lineOrder", b"\0")
    yield _attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    yield _attribute("screenWindowCenter", "v2f", struct.pack("<ff", 0, 0))
    yield _attribute("screenWindowWidth", "float", struct.pack("<f", 1))


def _attribute(name: str, kind: str, value: bytes) -> bytes:
    return _text(name) + _text(kind) + struct.pack("<i", len(value)) + value


def _text(text: str) -> bytes:
    return text.encode("ascii") + b"\0"


def _compressed(data: bytes) -> bytes:
    """Apply the format's predictor and zlib; what does not become smaller stays as it is."""
    halves = np.frombuffer(data, np.uint8)
    halves = np.concatenate([halves[0::2], halves[1::2]])
    steps = halves.copy()
    steps[1:] -= halves[:-1] + np.uint8(128)  # modulo 256
    packed = zlib.compress(steps.tobytes(), level=4)
    return packed if len(packed) < len(data) else data
