"""Boxes, cylinders, ellipsoids and rings as meshes around the origin, z up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_SIDES = 20


@dataclass(frozen=True)
class Solid:
    """A closed mesh.

    Attributes:
        vertices: (V, 3) float32, metres.
        triangles: (T, 3) int64 vertex indices.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int64]

    def moved(self, by: ArrayLike) -> Self:
        """Return the solid elsewhere; `by` has shape (3,), metres."""
        return type(self)((self.vertices + np.asarray(by)).astype(np.float32), self.triangles)

    def turned(self, rotation: ArrayLike) -> Self:
        """Return the solid turned around the origin by a rotation vector of shape (3,), radians."""
        matrix = cv2.Rodrigues(np.asarray(rotation, dtype=np.float64))[0]
        return type(self)((self.vertices @ matrix.T).astype(np.float32), self.triangles)


def box(sizes: ArrayLike) -> Solid:
    """Return a box; `sizes` has shape (3,), metres. Corners are doubled so that faces are flat."""
    faces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            corners = [
                sign * np.eye(3)[axis] + sign * a * u + b * v for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
            ]
            faces.append(np.stack(corners))
    vertices = np.concatenate(faces) * np.asarray(sizes) / 2
    quads = np.arange(24).reshape(6, 4)
    return Solid(vertices.astype(np.float32), np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))


def ellipsoid(radii: tuple[float, float, float], *, lower: float = -1.0) -> Solid:
    """Return an ellipsoid, cut off below the share `lower` of its height above the middle."""
    heights = np.linspace(np.arcsin(lower), np.pi / 2, _SIDES // 2)
    return _turned_profile(np.stack([np.cos(heights), np.sin(heights)], axis=1), np.asarray(radii))


def cylinder(radius: float, height: float) -> Solid:
    """Return a standing cylinder; its rims are doubled so that they are sharp."""
    half = height / 2
    profile = [(0, -half), (radius, -half), (radius, -half), (radius, half), (radius, half), (0, half)]
    return _turned_profile(np.array(profile), np.ones(3))


def torus(radius: float, tube_radius: float) -> Solid:
    """Return a lying ring."""
    angles = np.linspace(0, 2 * np.pi, _SIDES // 2)
    profile = np.stack([radius + tube_radius * np.cos(angles), tube_radius * np.sin(angles)], axis=1)
    return _turned_profile(profile, np.ones(3))


def _turned_profile(profile: NDArray[np.float64], stretch: NDArray[np.float64]) -> Solid:
    """Return the surface that a profile, (P, 2) radius and height, makes when it turns around the z axis."""
    angles = np.linspace(0, 2 * np.pi, _SIDES, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rings = np.concatenate(
        [
            circle[None] * profile[:, None, :1],
            np.broadcast_to(profile[:, None, 1:], (len(profile), _SIDES, 1)),
        ],
        axis=2,
    )
    index = np.arange(len(profile) * _SIDES).reshape(len(profile), _SIDES)
    low, high = index[:-1], index[1:]
    quads = np.stack([low, np.roll(low, -1, axis=1), np.roll(high, -1, axis=1), high], axis=2).reshape(-1, 4)
    vertices = (rings.reshape(-1, 3) * stretch).astype(np.float32)
    return Solid(vertices, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))
