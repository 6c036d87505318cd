"""Render people with exact labels: `python -m training.render --output shards --images 4096 --seed 1`.

Every shard depends on the seed and its number alone, so an interrupted run goes on where it stopped. A last
shard that was shorter is rendered again when more images are asked for.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from training.figures import Figures
from training.images import read_photographs
from training.raster import Raster, rasterize, vertex_normals
from training.sample import Sample, stacked
from training.shading import albedo, background, lit, photographed
from training.wardrobe import Material, dress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.figures import Template
    from training.wardrobe import Person

IMAGE_HW = (256, 192)
SHARD_SIZE = 256
_MIN_SHARE = 0.03  # of the image, which a person must cover
_CAMERA_FROM_WORLD = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # x right, y down, z away
REFERENCE_FROM_CAMERA = np.array([1, -1, -1], np.float32)  # normals: x right, y up, z towards the camera


@dataclass(frozen=True)
class View:
    """A camera.

    Attributes:
        rotation: (3, 3) float32, camera from world.
        center: (3,) float32, what the camera looks at, metres.
        distance: From there, metres.
        focal_xy: Pixels per metre at a metre's distance, across and down: an image may be stretched.
    """

    rotation: NDArray[np.float32]
    center: NDArray[np.float32]
    distance: float
    focal_xy: tuple[float, float]

    def project(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (V, 3) x and y in pixels from the image's corner and z in metres, of (V, 3) in the world."""
        seen = (points - self.center) @ self.rotation.T
        seen[:, 2] += self.distance
        depth = np.maximum(seen[:, 2:], 0.05)
        middle = np.array(IMAGE_HW[::-1], np.float32) / 2
        pixels = seen[:, :2] * np.asarray(self.focal_xy, np.float32) / depth + middle
        return np.concatenate([pixels, seen[:, 2:]], axis=1).astype(np.float32)

    def rays(self, is_covered: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return (F, 3) float32 unit vectors from the camera through the centres of F covered pixels."""
        rows, columns = np.nonzero(is_covered)
        from_middle = np.stack([columns, rows], axis=1) + 0.5 - np.array(IMAGE_HW[::-1]) / 2
        rays = np.concatenate([from_middle / self.focal_xy, np.ones((len(rows), 1))], axis=1)
        return (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)


def choose_view(person: Person, template: Template, rng: np.random.Generator) -> View:
    """Aim at a face, at head and shoulders, at half a person or at a whole one."""
    body = person.vertices[: len(template.vertices)]
    used = body[template.triangles["body"][:, 0]]
    head = body[template.is_head]
    head_height = float(np.ptp(head[:, 2]))
    kind = rng.choice(["face", "shoulders", "half", "whole"], p=[0.1, 0.5, 0.18, 0.22])
    if kind == "whole":
        center = used.mean(axis=0)
        center[2] = (used[:, 2].max() + used[:, 2].min()) / 2
        extent = float(np.ptp(used[:, 2])) * rng.uniform(1.02, 1.5)
    else:
        smallest, largest = {"face": (1.1, 1.8), "shoulders": (1.8, 3.4), "half": (3.2, 6)}[str(kind)]
        extent = head_height * rng.uniform(smallest, largest)
        below = (extent - head_height * 1.2) * 0.5 * rng.uniform(0.7, 1.1)
        center = head.mean(axis=0) - (0, 0, below)
    center = center + rng.normal(0, 0.06, 3) * extent * (1, 0, 0.6)
    field_of_view = rng.uniform(0.25, 0.9)
    focal = IMAGE_HW[0] / 2 / np.tan(field_of_view / 2)
    stretch = float(np.exp(rng.normal(-0.15, 0.17))) if rng.random() < 0.7 else 1.0
    return View(
        _random_rotation(rng).astype(np.float32),
        center.astype(np.float32),
        float(extent / 2 / np.tan(field_of_view / 2)),
        (focal * stretch, focal),
    )


def render(
    person: Person, figures: Figures, photographs: Sequence[NDArray[np.uint8]], rng: np.random.Generator
) -> Sample | None:
    """Photograph one person; None: there is too little of it in the image.

    Args:
        person: Who.
        figures: The template and the places of keypoints that all bodies share.
        photographs: Backgrounds and cloth, each (H, W, 3) uint8 RGB.
        rng: Chance.
    """
    view = choose_view(person, figures.template, rng)
    raster = rasterize(view.project(person.vertices), person.triangles, IMAGE_HW)
    class_ids = raster.nearest(person.class_ids)
    is_person = class_ids > 0
    if is_person.sum() < _MIN_SHARE * IMAGE_HW[0] * IMAGE_HW[1]:
        return None
    normals = _seen_normals(person, raster, view)
    materials = raster.nearest(person.materials)
    shine = np.where(np.isin(materials, [Material.HAIR, Material.THING]), 1.2, 0.7)
    colors = albedo(raster, person, figures.template, photographs, rng)
    colors = (
        lit(colors, normals, shine.astype(np.float32), rng)
        * _occlusion(raster.is_covered, raster.depth, rng)[:, None]
    )
    picture = background(IMAGE_HW, photographs, rng)
    picture[raster.is_covered] = colors

    def image_of(values: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
        where = raster.is_covered.copy()
        where[where] = is_person
        canvas: NDArray[Any] = np.zeros((*IMAGE_HW, *values.shape[1:]), dtype)
        canvas[where] = values[is_person]
        return canvas

    keypoints = view.project(figures.keypoint_weights @ person.body)
    depth = raster.depth - np.median(raster.depth[is_person])
    return Sample(
        image=photographed(picture, raster.is_covered, rng),
        class_map=image_of(class_ids, np.uint8),
        normals=image_of(np.round(normals * REFERENCE_FROM_CAMERA * 127), np.int8),
        depth=image_of(depth, np.float16),
        keypoints=keypoints[:, :2],
    )


def _seen_normals(person: Person, raster: Raster, view: View) -> NDArray[np.float32]:
    """Return (F, 3) float32 unit normals of the side that is seen, camera frame."""
    normals = raster.interpolated(vertex_normals(person.vertices, person.triangles)) @ view.rotation.T
    normals *= np.where(raster.is_back, -1, 1)[:, None]
    rays = view.rays(raster.is_covered)
    # Between the vertices of a rim, smoothed normals may turn away from where the surface is seen from.
    away = np.maximum((normals * rays).sum(axis=1, keepdims=True), 0)
    normals -= away * rays
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9)


def render_shard(
    figures: Figures, photographs: Sequence[NDArray[np.uint8]], *, seed: int, number: int, size: int
) -> dict[str, NDArray[Any]]:
    """Return the arrays of N = `size` samples by their names in `Sample`: images are (N, H, W, 3) uint8 RGB.

    Args:
        figures: Bodies to choose from.
        photographs: Backgrounds and cloth, each (H, W, 3) uint8 RGB.
        seed: Of all shards together.
        number: Of this one; both decide what is in it.
        size: How many samples.
    """
    rng = np.random.default_rng((seed, number))
    samples: list[Sample] = []
    while len(samples) < size:
        for vertices in figures.sample(16, rng):
            sample = render(dress(figures.template, vertices, rng), figures, photographs, rng)
            if sample is not None:
                samples.append(sample)
    return stacked(samples[:size])


def _random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    yaw = rng.normal(0, 0.45) if rng.random() < 0.9 else rng.uniform(-np.pi, np.pi)
    around_z, around_x, roll = (
        cv2.Rodrigues(np.array(vector))[0]
        for vector in ((0, 0, yaw), (rng.normal(0, 0.12), 0, 0), (0, 0, rng.normal(0, 0.07)))
    )
    return roll @ _CAMERA_FROM_WORLD @ around_x @ around_z


def _occlusion(
    is_covered: NDArray[np.bool_], depth: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return (F,) float32: what lies behind its surroundings, as below a chin, gets less light."""
    image = np.zeros(is_covered.shape, np.float32)
    image[is_covered] = depth
    width = IMAGE_HW[0] * 0.03
    around = cv2.GaussianBlur(is_covered.astype(np.float32), (0, 0), width)
    mean = cv2.GaussianBlur(image, (0, 0), width) / np.maximum(around, 1e-3)
    behind = (image - mean)[is_covered] / 0.25 * rng.uniform(1, 4)
    return np.clip(1 - np.clip(behind, -0.3, 0.6), 0.3, 1.2)


def _length(shard: Path) -> int:
    with np.load(shard) as arrays:
        return len(arrays["keypoints"])


def main() -> None:
    """Write shards until there are enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of the shards, one .npz each")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=1, help="the held-out images have another one")
    parser.add_argument("--photographs", type=Path, help="folder of images for backgrounds and cloth")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    figures, photographs = Figures(), read_photographs(options.photographs)
    started, done = time.monotonic(), 0
    num_shards = -(-options.images // SHARD_SIZE)
    for number in range(num_shards):
        path = options.output / f"{options.seed}_{number:04}.npz"
        size = min(SHARD_SIZE, options.images - number * SHARD_SIZE)
        if path.exists() and _length(path) >= size:
            continue
        draft = path.with_suffix(f".{os.getpid()}.draft")
        with draft.open("wb") as file:
            np.savez(file, **render_shard(figures, photographs, seed=options.seed, number=number, size=size))
        draft.replace(path)
        done += size
        rate = done / (time.monotonic() - started)
        print(f"{path.name}: shard {number + 1} of {num_shards}, {rate:.1f} images/s", flush=True)


if __name__ == "__main__":
    main()
