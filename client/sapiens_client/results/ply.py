"""Points and triangles as PLY files, as MeshLab, CloudCompare, Open3D and Blender read them.

Source: "The PLY Polygon File Format", Greg Turk, 1994.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def ply(
    points: NDArray[np.float32], colors: NDArray[np.uint8] | None, faces: NDArray[np.int32] | None
) -> bytes:
    """Encode points, binary and little-endian.

    Args:
        points: (N, 3) float32, x, y, z.
        colors: (N, 3) uint8 RGB; None: there are none.
        faces: (T, 3) int32, indices of points; None: points alone.
    """
    coordinates = [(axis, "<f4") for axis in "xyz"]
    channels = [(channel, "u1") for channel in ("red", "green", "blue")] if colors is not None else []
    vertices = np.empty(len(points), dtype=[*coordinates, *channels])
    for index, (axis, _) in enumerate(coordinates):
        vertices[axis] = points[:, index]
    if colors is not None:
        for index, (channel, _) in enumerate(channels):
            vertices[channel] = colors[:, index]
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    head += [f"property float {axis}" for axis, _ in coordinates]
    head += [f"property uchar {channel}" for channel, _ in channels]
    body = vertices.tobytes()
    if faces is not None:
        head += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        lists = np.empty(len(faces), dtype=[("count", "u1"), ("indices", "<i4", 3)])
        lists["count"], lists["indices"] = 3, faces
        body += lists.tobytes()
    return "\n".join([*head, "end_header", ""]).encode("ascii") + body
