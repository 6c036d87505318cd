"""Points and triangles as binary glTF files, as browsers and 3D programs read them.

Source: "glTF 2.0 Specification", Khronos Group, https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from sapiens_client.version import sdk_version

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC, _VERSION = b"glTF", 2
_FLOAT, _UINT32 = 5126, 5125  # types of components
_VERTICES, _INDICES = 34962, 34963  # what a view of the buffer is for
_POINTS, _TRIANGLES = 0, 4  # modes
_UNLIT = "KHR_materials_unlit"
_Y_UP = np.array([1, -1, -1], np.float32)  # x right, y up, z towards the viewer


def glb(
    points: NDArray[np.float32], colors: NDArray[np.uint8] | None, faces: NDArray[np.int32] | None
) -> bytes:
    """Encode points; the image's y points down and its z away from the camera, those of glTF the other way.

    Args:
        points: (N, 3) float32, x, y, z in the frame of the camera, at least one.
        colors: (N, 3) uint8 RGB; None: there are none.
        faces: (T, 3) int32, indices of points, at least one triangle; None: points alone.
    """
    positions = points * _Y_UP
    buffers = [positions.astype("<f4").tobytes()]
    bounds = {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
    accessors = [_accessor(0, _FLOAT, "VEC3", len(points), **bounds)]
    attributes = {"POSITION": 0}
    if colors is not None:
        attributes["COLOR_0"] = len(buffers)
        accessors.append(_accessor(len(buffers), _FLOAT, "VEC3", len(points)))
        buffers.append(_linear(colors).tobytes())
    primitive: dict[str, Any] = {"attributes": attributes, "mode": _POINTS, "material": 0}
    if faces is not None:
        primitive |= {"mode": _TRIANGLES, "indices": len(buffers)}
        accessors.append(_accessor(len(buffers), _UINT32, "SCALAR", faces.size))
        buffers.append(faces.astype("<u4").tobytes())
    content = {
        "asset": {"version": "2.0", "generator": f"sapiens-triton {sdk_version()}"},
        "extensionsUsed": [_UNLIT],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        # The light is in the colours already.
        "materials": [{"extensions": {_UNLIT: {}}, "pbrMetallicRoughness": {}, "doubleSided": True}],
        "accessors": accessors,
        "bufferViews": _views(buffers, primitive.get("indices")),
        "buffers": [{"byteLength": sum(map(len, buffers))}],
    }
    chunks = _chunk(b"JSON", json.dumps(content).encode(), b" ") + _chunk(b"BIN\0", b"".join(buffers), b"\0")
    return struct.pack("<4sII", _MAGIC, _VERSION, 12 + len(chunks)) + chunks


def _accessor(view: int, component: int, kind: str, count: int, **more: Any) -> dict[str, Any]:
    return {"bufferView": view, "componentType": component, "type": kind, "count": count, **more}


def _views(buffers: list[bytes], indices: int | None) -> list[dict[str, int]]:
    starts = np.cumsum([0, *map(len, buffers)]).tolist()
    return [
        {
            "buffer": 0,
            "byteOffset": start,
            "byteLength": len(content),
            "target": _INDICES if view == indices else _VERTICES,
        }
        for view, (start, content) in enumerate(zip(starts, buffers, strict=False))
    ]


def _linear(colors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (N, 3) RGB as light, 0..1: glTF's colours of vertices are not those of images (sRGB)."""
    levels = np.arange(256) / 255
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    linear: NDArray[np.float32] = light.astype("<f4")[colors]
    return linear


def _chunk(kind: bytes, content: bytes, filler: bytes) -> bytes:
    padding = filler * (-len(content) % 4)
    return struct.pack("<I4s", len(content) + len(padding), kind) + content + padding
