"""Depth and points as surfaces for a viewer of glTF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_client.results.glb import glb
from sapiens_core.finish.depth import nearness
from sapiens_core.surfaces.mesh import triangles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.results.depth import DepthResult
    from sapiens_client.results.pointmap import PointmapResult

_MAX_SIDE = 320  # a hundred thousand points, which every machine turns smoothly
_HEIGHT = 0.3  # of a relief, in lengths of its longer side
_DISTANCE = 1.0  # of its farthest point from whoever looks, likewise
_EDGE_TOLERANCE = 0.04


def relief(result: DepthResult) -> bytes:
    """Raise a picture by its relative depth, which has no unit: by how much is a matter of taste.

    Returns:
        A binary glTF file: of the person, where the result knows it, else of all; empty: nothing is whole.
    """
    step = _step(result.image_hw)
    depth = np.asarray(result.depth[::step, ::step], np.float32)
    valid = _inside(np.isfinite(depth), result.foreground, step)
    near = nearness(np.where(valid, depth, 0), valid)
    rows, columns = np.indices(depth.shape, np.float32)
    longer = max(depth.shape)
    x, y = (columns - depth.shape[1] / 2) / longer, (rows - depth.shape[0] / 2) / longer
    distance = np.where(valid, _DISTANCE - near * _HEIGHT, _DISTANCE)
    return _surface(np.dstack([x, y, distance]).astype(np.float32), valid, result.image[::step, ::step])


def points_relief(result: PointmapResult) -> bytes:
    """Show points in metres.

    Returns:
        A binary glTF file: of the person, where the result knows it, else of all; empty: nothing is whole.
    """
    step = _step(result.image_hw)
    points = np.asarray(result.points[::step, ::step], np.float32)
    valid = _inside(result.valid[::step, ::step], result.foreground, step)
    return _surface(points, valid, result.image[::step, ::step])


def _step(image_hw: tuple[int, int]) -> int:
    """Every n-th pixel becomes a point."""
    return -(-max(image_hw) // _MAX_SIDE)


def _inside(valid: NDArray[np.bool_], foreground: NDArray[np.bool_] | None, step: int) -> NDArray[np.bool_]:
    """Leave out what is beside the person, where there is one; (H, W) bool."""
    person = None if foreground is None else valid & foreground[::step, ::step]
    return valid if person is None or not person.any() else person


def _surface(points: NDArray[np.float32], valid: NDArray[np.bool_], image: NDArray[np.uint8]) -> bytes:
    """Join (H, W, 3) points where they are valid, in the colours of the (H, W, 3) image."""
    faces = triangles(points[..., 2], valid, _EDGE_TOLERANCE)
    return glb(points[valid], image[valid], faces) if len(faces) else b""
