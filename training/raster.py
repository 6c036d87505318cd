"""Triangles to pixels: a z-buffer, and what it needs of meshes. Compiled, since it is the inner loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Raster:
    """The surface points that an image shows, F of its pixels.

    Attributes:
        is_covered: (H, W) bool, F of them true.
        depth: (F,) float32, distance from the camera's plane, metres.
        corners: (F, 3) int64, vertices of the triangle that a pixel shows.
        weights: (F, 3) float32, what each corner counts; sums to 1.
        is_back: (F,) bool, the triangle shows the side from which its corners go round clockwise.
    """

    is_covered: NDArray[np.bool_]
    depth: NDArray[np.float32]
    corners: NDArray[np.int64]
    weights: NDArray[np.float32]
    is_back: NDArray[np.bool_]

    def interpolated(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (F, ...) float32 values between those of the vertices, (V, ...)."""
        return _weighted(values.reshape(len(values), -1), self.corners, self.weights).reshape(
            -1, *values.shape[1:]
        )

    def nearest(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the values of the nearest vertices, of shape (F,), of those of all vertices, (V,)."""
        nearest = self.weights.argmax(axis=1)
        return values[np.take_along_axis(self.corners, nearest[:, None], axis=1)[:, 0]]


def rasterize(points: NDArray[np.float32], triangles: NDArray[np.int64], image_hw: tuple[int, int]) -> Raster:
    """Show what stands nearest at the centre of each pixel.

    Args:
        points: (V, 3) float32, x and y in pixels from the image's corner, z the distance from the camera's
            plane; triangles that reach behind it are left out.
        triangles: (T, 3) int64.
        image_hw: Height and width of the image.
    """
    shown, weights = _z_buffer(points, triangles, *image_hw)
    is_covered = shown >= 0
    corners = triangles[shown[is_covered]]
    weights = weights[is_covered]
    inverse_depth = (weights / points[corners, 2]).sum(axis=1)
    weights = (weights / points[corners, 2] / inverse_depth[:, None]).astype(np.float32)
    (ax, ay), (bx, by), (cx, cy) = points[corners, :2].transpose(1, 2, 0)
    is_back = (bx - ax) * (cy - ay) > (cx - ax) * (by - ay)  # y goes down
    return Raster(is_covered, (1 / inverse_depth).astype(np.float32), corners, weights, is_back)


def vertex_normals(vertices: NDArray[np.float32], triangles: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (V, 3) float32 unit normals of (V, 3) vertices, faces weighted by their area."""
    normals = _summed_normals(vertices, triangles)
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + np.float32(1e-12))


@numba.njit(cache=True)
def _weighted(values, corners, weights):  # type: ignore[no-untyped-def]
    result = np.empty((len(corners), values.shape[1]), np.float32)
    for point in range(len(corners)):
        a, b, c = corners[point]
        for column in range(values.shape[1]):
            result[point, column] = (
                values[a, column] * weights[point, 0]
                + values[b, column] * weights[point, 1]
                + values[c, column] * weights[point, 2]
            )
    return result


@numba.njit(cache=True)
def _summed_normals(vertices, triangles):  # type: ignore[no-untyped-def]
    normals = np.zeros_like(vertices)
    for index in range(len(triangles)):
        a, b, c = triangles[index]
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        )  # fmt: skip
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        )  # fmt: skip
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            normals[corner, 0] += x
            normals[corner, 1] += y
            normals[corner, 2] += z
    return normals


@numba.njit(cache=True, fastmath=True)
def _z_buffer(points, triangles, height, width):  # type: ignore[no-untyped-def]
    nearest = np.zeros((height, width), np.float32)  # as 1 / z, which is linear in the image
    shown = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 3), np.float32)
    for index in range(len(triangles)):
        _draw(index, points[triangles[index]], nearest, shown, weights)
    return shown, weights


@numba.njit(cache=True, fastmath=True)
def _draw(index, corners, nearest, shown, weights):  # type: ignore[no-untyped-def]
    """Write one triangle wherever nothing nearer was written."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    if min(az, bz, cz) <= 0.05 or abs(area) < 1e-9:
        return
    height, width = nearest.shape
    left = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
    right = min(int(np.floor(max(ax, bx, cx) - 0.5)), width - 1)
    top = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
    bottom = min(int(np.floor(max(ay, by, cy) - 0.5)), height - 1)
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            x, y = column + 0.5, row + 0.5
            first = ((bx - x) * (cy - y) - (cx - x) * (by - y)) / area
            second = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) / area
            third = 1 - first - second
            nearness = first / az + second / bz + third / cz
            if min(first, second, third) >= 0 and nearness > nearest[row, column]:
                nearest[row, column] = nearness
                shown[row, column] = index
                weights[row, column, 0] = first
                weights[row, column, 1] = second
                weights[row, column, 2] = third
