"""Hair, clothes, shoes, collars, caps, and things that people hold: figures become people.

Clothes and hair are the body's own surface, pushed outwards; the rest are simple solids put beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from training.figures import CLASS_IDS
from training.raster import vertex_normals
from training.solids import Solid, box, cylinder, ellipsoid, torus

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.figures import Template

_MAX_OFFSET_M = 0.08


class Material(IntEnum):
    """What a surface is made of, hence how it is coloured."""

    SKIN = 0
    UPPER = 1
    LOWER = 2
    HAIR = 3
    SHOE = 4
    THING = 5


@dataclass
class Person:
    """A dressed figure; vertices of solids follow those of the body.

    Attributes:
        vertices: (V, 3) float32, metres.
        triangles: (T, 3) int64.
        class_ids: (V,) int32; 0, the background, for things that are no part of a person.
        materials: (V,) int32 of `Material`.
        texture: (V, 3) float32, where patterns are looked up, metres.
        body: (V of the body, 3) float32, the vertices before they were dressed, metres.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int64]
    class_ids: NDArray[np.int32]
    materials: NDArray[np.int32]
    texture: NDArray[np.float32]
    body: NDArray[np.float32]


@dataclass
class _Outfit:
    class_ids: NDArray[np.int32]
    materials: NDArray[np.int32]
    offsets: NDArray[np.float32]
    parts: list[str] = field(default_factory=lambda: ["body", "left_eye", "right_eye"])

    def wear(
        self, where: NDArray[np.bool_], class_name: str, material: Material, thickness: NDArray[np.float32]
    ) -> None:
        self.class_ids[where] = CLASS_IDS[class_name]
        self.materials[where] = material
        self.offsets[where] = np.maximum(self.offsets[where], thickness[where])


def dress(template: Template, vertices: NDArray[np.float32], rng: np.random.Generator) -> Person:
    """Give a figure hair, clothes and things.

    Args:
        template: The figure's body model.
        vertices: (V, 3) float32 of the naked figure.
        rng: Chooses.
    """
    count = len(vertices)
    outfit = _Outfit(template.class_ids.copy(), np.zeros(count, np.int32), np.zeros(count, np.float32))
    if rng.random() < 0.95:
        _wear_upper(outfit, template, rng)
    if rng.random() < 0.95:
        _wear_lower(outfit, template, rng)
    if rng.random() < 0.85:
        _wear_shoes(outfit)
    if rng.random() < 0.95:
        _wear_hair(outfit, template, rng)
    is_bare = outfit.materials == Material.SKIN
    for lip, name in zip(template.lips, ("Lower_Lip", "Upper_Lip"), strict=True):
        outfit.class_ids[lip & is_bare] = CLASS_IDS[name]

    normals = vertex_normals(vertices, template.triangles["body"])
    offsets = np.clip(outfit.offsets, 0, _MAX_OFFSET_M)[:, None]
    person = Person(
        vertices + normals * offsets,
        np.concatenate([template.triangles[part] for part in outfit.parts]),
        outfit.class_ids,
        outfit.materials,
        template.vertices,
        vertices,
    )
    for solid, class_name, material in _things(template, person, rng):
        _add(person, solid, CLASS_IDS[class_name], material)
    return person


def _wear_upper(outfit: _Outfit, template: Template, rng: np.random.Generator) -> None:
    x, y, z = template.vertices.T
    neck = template.bones == "neck01"
    collar = np.quantile(z[neck], rng.uniform(0, 0.9))
    slope = 0.5 * (y - y[neck].mean()) * rng.uniform(-0.5, 1)
    where = (template.class_ids == CLASS_IDS["Torso"]) | (template.is_head & (z < collar + slope))
    if rng.random() < 0.5:  # a neckline
        depth, width = rng.uniform(0, 0.9) * 0.18, rng.uniform(0.8, 2)
        where &= ~((y < 0) & (z > collar - depth + np.abs(x) * width))
    sleeves = rng.choice(3, p=[0.12, 0.25, 0.63])
    for part in ("Upper_Arm", "Lower_Arm")[:sleeves]:
        where |= _both_sides(template, part)
    thickness = rng.uniform(*rng.choice([(0.004, 0.012), (0.012, 0.03), (0.03, 0.06)], p=[0.4, 0.3, 0.3]))
    outfit.wear(where, "Upper_Clothing", Material.UPPER, thickness * (1 + 0.5 * _waves(template, 25, rng)))


def _wear_lower(outfit: _Outfit, template: Template, rng: np.random.Generator) -> None:
    z = template.vertices[:, 2]
    hip = z[template.bones == "upperleg01.L"].max()
    thighs = _both_sides(template, "Upper_Leg")
    where = thighs | ((template.class_ids == CLASS_IDS["Torso"]) & (z < hip + rng.uniform(0, 0.08)))
    kind = rng.choice(["skirt", "shorts", "trousers"], p=[0.2, 0.2, 0.6])
    if kind == "shorts":
        where &= z > hip - (hip - z[thighs].min()) * rng.uniform(0.35, 0.8)
    if kind == "trousers":
        where |= _both_sides(template, "Lower_Leg")
    thickness = rng.uniform(0.003, 0.02) * (1 + 0.4 * _waves(template, 25, rng))
    outfit.wear(where, "Lower_Clothing", Material.LOWER, thickness)
    if kind == "skirt" and rng.random() < 0.8:
        outfit.parts.append("skirt")
        skirt = np.unique(template.triangles["skirt"])
        outfit.class_ids[skirt], outfit.materials[skirt] = CLASS_IDS["Lower_Clothing"], Material.LOWER


def _wear_shoes(outfit: _Outfit) -> None:
    thickness = np.full(len(outfit.offsets), 0.008, np.float32)
    for side in ("Left", "Right"):
        foot = outfit.class_ids == CLASS_IDS[f"{side}_Foot"]
        outfit.wear(foot, f"{side}_Shoe", Material.SHOE, thickness)


def _wear_hair(outfit: _Outfit, template: Template, rng: np.random.Generator) -> None:
    _, y, z = template.vertices.T
    eye_y, eye_z = template.eye_centers[0, 1:]
    line = eye_z + rng.uniform(0.045, 0.075)
    above = (z > line - rng.uniform(0.5, 1.3) * (y - eye_y + 0.02)) & (z > eye_z)
    behind = (y > eye_y + rng.uniform(0.06, 0.10)) & (z > eye_z - rng.uniform(0.03, 0.13))
    where = template.is_head & (above | behind) & ((y > eye_y) | (z > line))
    volume = rng.uniform(0.004, 0.015) if rng.random() < 0.5 else rng.uniform(0.015, 0.05)
    waves = 1 + 0.6 * _waves(template, 40, rng) + 0.3 * _waves(template, 120, rng)
    outfit.wear(where, "Hair", Material.HAIR, volume * waves)
    if rng.random() < 0.25:  # long hair
        outfit.parts.append("hair")
        strands = np.unique(template.triangles["hair"])
        outfit.class_ids[strands], outfit.materials[strands] = CLASS_IDS["Hair"], Material.HAIR


def _things(
    template: Template, person: Person, rng: np.random.Generator
) -> list[tuple[Solid, str, Material]]:
    head = person.vertices[: len(template.is_head)][template.is_head]
    neck = person.vertices[: len(template.bones)][template.bones == "neck01"].mean(axis=0)
    top = head[head[:, 2] > np.quantile(head[:, 2], 0.6)]
    skull, radius = top.mean(axis=0), np.ptp(top[:, 0]) / 2
    things = []
    if rng.random() < 0.35:  # a collar, a scarf, the ring of a suit
        ring = torus(rng.uniform(0.075, 0.15), rng.uniform(0.012, 0.045))
        ring = ring.turned(rng.normal(0, 0.2, 3)).moved(neck + (0, -0.01, rng.uniform(-0.05, 0.03)))
        things.append((ring, "Upper_Clothing", Material.UPPER if rng.random() < 0.4 else Material.THING))
    if rng.random() < 0.12:  # a cap, a hat
        size = radius * rng.uniform(1.05, 1.25)
        height = size * rng.uniform(0.8, 1.3)
        crown = ellipsoid((size, size * 1.15, height), lower=0.0)
        brim = cylinder(size * rng.uniform(1.0, 1.7), 0.006)
        base = skull + (0, 0, rng.uniform(0.0, 0.035))
        things += [
            (crown.moved(base), "Apparel", Material.THING),
            (brim.moved(base), "Apparel", Material.THING),
        ]
    if rng.random() < 0.08:  # held before the chest
        held = _any_solid(rng, 0.08, 0.2)
        place = neck + (rng.uniform(-0.3, 0.3), rng.uniform(-0.4, -0.25), rng.uniform(-0.65, -0.25))
        things.append((held.turned(rng.normal(0, 1, 3)).moved(place), "Apparel", Material.THING))
    if rng.random() < 0.4:  # furniture beside and behind
        for _ in range(rng.integers(1, 4)):
            side = rng.choice([-1, 1])
            place = neck + (side * rng.uniform(0.45, 1.3), rng.uniform(-0.1, 1.5), rng.uniform(-0.7, 0.4))
            furniture = _any_solid(rng, 0.1, 0.4).turned(rng.normal(0, 0.4, 3))
            things.append((furniture.moved(place), "Background", Material.THING))
    return things


def _any_solid(rng: np.random.Generator, smallest: float, largest: float) -> Solid:
    sizes = rng.uniform(smallest, largest, 3)
    kind = rng.integers(3)
    if kind == 0:
        return box(sizes)
    return ellipsoid(tuple(sizes)) if kind == 1 else cylinder(sizes[0] / 2, sizes[1] * 2)


def _add(person: Person, solid: Solid, class_id: int, material: Material) -> None:
    start, count = len(person.vertices), len(solid.vertices)
    person.vertices = np.concatenate([person.vertices, solid.vertices])
    person.triangles = np.concatenate([person.triangles, solid.triangles + start])
    person.class_ids = np.concatenate([person.class_ids, np.full(count, class_id, np.int32)])
    person.materials = np.concatenate([person.materials, np.full(count, material, np.int32)])
    person.texture = np.concatenate([person.texture, solid.vertices])


def _both_sides(template: Template, part: str) -> NDArray[np.bool_]:
    return np.isin(template.class_ids, [CLASS_IDS[f"Left_{part}"], CLASS_IDS[f"Right_{part}"]])


def _waves(template: Template, frequency: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (V,) float32, smooth noise of about -1..1 over the body."""
    directions = rng.normal(0, 1, (3, 6)) * frequency * rng.uniform(0.3, 0.9, 6)
    waves = np.sin(
        template.vertices @ directions.astype(np.float32) + rng.uniform(0, 6.3, 6).astype(np.float32)
    )
    return waves.mean(axis=1)
