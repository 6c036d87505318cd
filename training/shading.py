"""Colours, light and lens: what makes a raster look a little like a photograph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from training.wardrobe import Material

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.figures import Template
    from training.raster import Raster
    from training.wardrobe import Person

_PUPIL_M, _IRIS_M = 0.0016, 0.0045  # from the front of the eye


def albedo(
    raster: Raster,
    person: Person,
    template: Template,
    textures: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return (F, 3) float32 RGB colours of the surface, about 0..1.

    Args:
        raster: What is seen.
        person: Who is seen.
        template: The body's template.
        textures: (h, w, 3) RGB images for printed cloth and things.
        rng: Chooses.
    """
    materials = raster.nearest(person.materials)
    places = raster.interpolated(person.texture)
    skin, hair = _skin_color(rng), _hair_color(rng)
    palette = np.stack([_cloth_color(rng) for _ in Material])
    palette[[Material.SKIN, Material.HAIR]] = skin, hair
    colors = palette[materials]
    for material in (Material.UPPER, Material.LOWER, Material.SHOE, Material.THING):
        where = materials == material
        if where.any():
            colors[where] = _patterned(colors[where], places[where], textures, rng)
    if rng.random() < 0.35:  # an open front, a tie, a zip
        strip = (materials == Material.UPPER) & (np.abs(places[:, 0]) < rng.uniform(0.01, 0.06))
        colors[strip] = rng.random(3)
    strands = materials == Material.HAIR
    colors[strands] *= _strands(places[strands], rng)[:, None]
    is_skin = materials == Material.SKIN
    colors[is_skin] *= 1 + 0.06 * _waves(places[is_skin], 60, rng)[:, None]
    colors = _with_face(colors, raster, template, palette, is_skin, rng)
    _paint_eyes(colors, raster, template, places, is_skin, rng)
    return colors.astype(np.float32)


def lit(
    colors: NDArray[np.float32],
    normals: NDArray[np.float32],
    shine: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return (F, 3) float32 colours under one to three lamps.

    Args:
        colors: (F, 3) float32.
        normals: (F, 3) float32, camera frame: x right, y down, z away.
        shine: (F,) float32, how strongly a surface reflects.
        rng: Chooses.
    """
    light = rng.uniform(0.15, 0.6) - rng.uniform(0, 0.25) * normals[:, 1]
    gloss = np.zeros(len(colors), np.float32)
    for _ in range(rng.integers(1, 4)):
        lamp = rng.normal(0, 1, 3) * (1, 0.8, 0.5) + (0, -0.5, -0.8)
        lamp /= np.linalg.norm(lamp)
        strength = rng.uniform(0.2, 0.8)
        light += np.clip((normals @ lamp + 0.15) / 1.15, 0, None) * strength
        half_way = lamp + (0, 0, -1)
        half_way /= np.linalg.norm(half_way)
        gloss += (
            np.clip(normals @ half_way, 0, None) ** rng.uniform(8, 40)
            * strength
            * rng.uniform(0, 0.25)
            * shine
        )
    tint = np.clip(1 + rng.normal(0, 0.08, 3), 0.7, 1.3)
    return ((colors + gloss[:, None]) * light[:, None] * tint * rng.uniform(0.6, 1.3)).astype(np.float32)


def background(
    image_hw: tuple[int, int], photographs: Sequence[NDArray[np.uint8]], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return (H, W, 3) float32 RGB: part of a photograph, or overlapping painted shapes before a gradient."""
    if photographs and rng.random() < 0.35:
        picture = _cut(photographs[rng.integers(len(photographs))], image_hw, rng)
    else:
        picture = _gradient(image_hw, rng)
        if rng.random() < 0.75:
            _paint_shapes(picture, rng)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 10))  # type: ignore[assignment]
    return picture


def photographed(
    picture: NDArray[np.float32], is_covered: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8: soft edges, exposure, blur, noise and JPEG of (H, W, 3) float32."""
    softness = cv2.GaussianBlur(is_covered.astype(np.float32), (0, 0), 0.7)[..., None]
    blurred = cv2.GaussianBlur(picture, (0, 0), 0.8)
    picture = np.where(np.abs(softness - 0.5) < 0.45, blurred, picture)
    picture = np.clip(picture, 0, 1.3) ** rng.uniform(0.7, 1.2) * rng.uniform(0.8, 1.25) + rng.normal(0, 0.04)
    picture = picture.astype(np.float32)
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.3))  # type: ignore[assignment]
    noise = rng.standard_normal(picture.shape, dtype=np.float32) * rng.uniform(0, 0.03)
    pixels = (np.clip(picture + noise, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.3:
        # OpenCV takes the RGB for BGR both ways, so only which colours JPEG coarsens most is not a camera's.
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(35, 95))]
        encoded = cv2.imencode(".jpg", pixels, quality)[1]
        pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return pixels


def _skin_color(rng: np.random.Generator) -> NDArray[np.float64]:
    tone = np.array((0.78, 0.55, 0.42) if rng.random() < 0.6 else (0.5, 0.3, 0.2))
    return np.clip(tone * rng.uniform(0.5, 1.3) * (1 + rng.normal(0, 0.07, 3)), 0.05, 1)


def _hair_color(rng: np.random.Generator) -> NDArray[np.float64]:
    tone = rng.choice([0.04, 0.12, 0.25, 0.55]) * np.array([1, 0.8, 0.6])
    return np.clip(tone * (1 + rng.normal(0, 0.2, 3)), 0.01, 1)


def _cloth_color(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (3,) RGB, from grey to gaudy."""
    color = rng.random(3) ** 1.3
    return color.mean() + (color - color.mean()) * rng.random()


def _patterned(
    colors: NDArray[np.float64],
    places: NDArray[np.float32],
    textures: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    if textures and rng.random() < 0.15:
        texture = textures[rng.integers(len(textures))]
        rows, columns = (places[:, (2, 0)] * rng.uniform(100, 900)).astype(int).T
        return texture[rows % texture.shape[0], columns % texture.shape[1]] / 255
    if rng.random() < 0.6:
        contrast = rng.uniform(0.05, 0.35) * rng.normal(0.6, 0.4, 3)
        colors = colors + _pattern(places, rng.uniform(20, 200), rng)[:, None] * contrast
    if rng.random() < 0.3:  # badges, pockets, logos
        for _ in range(rng.integers(1, 5)):
            center = places[rng.integers(len(places))]
            size = rng.uniform(0.015, 0.06)
            where = np.abs(places - center).max(axis=1) < size
            if rng.random() < 0.5:
                where = np.linalg.norm(places - center, axis=1) < size
            colors[where] = rng.random(3)
    return np.clip(colors, 0.01, 1)


def _pattern(places: NDArray[np.float32], frequency: float, rng: np.random.Generator) -> NDArray[np.float64]:
    kind = rng.integers(4)
    if kind == 3:
        return rng.normal(0, 0.5, len(places))
    if kind == 2:
        return _waves(places, frequency, rng)
    direction = rng.normal(0, 1, 3)
    stripes = np.sin(places @ (direction / np.linalg.norm(direction) * frequency))
    return np.sign(stripes) if kind == 0 else stripes * np.sin(places @ (rng.normal(0, 1, 3) * frequency))


def _waves(places: NDArray[np.float32], frequency: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (F,) smooth noise of about -2..2 at (F, 3) places."""
    return np.sin(places @ (rng.normal(0, 1, (3, 3)) * frequency) + rng.uniform(0, 6, 3)).sum(axis=1)


def _strands(places: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
    across = rng.normal(0, 1, 3) * (1, 1, 0.2) * rng.uniform(200, 700)
    return np.clip(1 + 0.35 * np.sin(places @ across) + rng.normal(0, 0.2, len(places)), 0.02, None)


def _with_face(
    colors: NDArray[np.float64],
    raster: Raster,
    template: Template,
    palette: NDArray[np.float64],
    is_skin: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return (F, 3) colours with brows, lips and perhaps a beard on the skin."""
    skin, hair = palette[Material.SKIN], palette[Material.HAIR]
    eye_x, eye_y, eye_z = template.eye_centers[0]
    x, y, z = np.abs(template.vertices[:, 0]), *template.vertices[:, 1:].T
    brows = (np.abs(z - eye_z - 0.022) < 0.0055) & (np.abs(x - eye_x) < 0.024) & (y < eye_y)
    chin = (z < eye_z - 0.055) & (z > eye_z - 0.15) & (y < eye_y + 0.05)
    lips = template.lips[0] | template.lips[1]
    layers = [(brows & template.is_head, rng.uniform(0.5, 1.0), hair * 0.8)]
    if rng.random() < 0.25:
        layers.append((chin & template.is_head & ~lips, rng.uniform(0.3, 0.95), hair))
    layers.append((lips, rng.uniform(0.2, 0.9), skin * (0.85, 0.5, 0.55) * rng.uniform(0.7, 1.2)))
    for where, strength, color in layers:
        share = (raster.interpolated(_for_all(raster, where, 0)) * is_skin * strength)[:, None]
        colors = colors * (1 - share) + share * color
    return colors


def _paint_eyes(
    colors: NDArray[np.float64],
    raster: Raster,
    template: Template,
    places: NDArray[np.float32],
    is_skin: NDArray[np.bool_],
    rng: np.random.Generator,
) -> None:
    """Paint white, iris and pupil, and perhaps the rims of glasses."""
    from_front = raster.interpolated(_for_all(raster, template.iris, np.inf))
    colors[from_front < np.inf] = 0.75
    colors[from_front < _IRIS_M] = np.array((0.15, 0.2, 0.25)) * rng.uniform(0.3, 1.6)
    colors[from_front < _PUPIL_M] = 0.02
    if rng.random() < 0.2:
        for x, y, z in template.eye_centers:
            from_center = np.hypot(places[:, 0] - x, places[:, 2] - z)
            rim = (np.abs(from_center - 0.026) < 0.004) & (places[:, 1] < y + 0.01)
            colors[rim & is_skin] = rng.random() * 0.3


def _for_all(raster: Raster, values: NDArray[np.generic], fill: float) -> NDArray[np.float32]:
    """Return values of the body's vertices with `fill` for those of solids, which come after them."""
    padded = np.full(max(raster.corners.max(), len(values)) + 1, fill, np.float32)
    padded[: len(values)] = values
    return padded


def _cut(
    photograph: NDArray[np.uint8], image_hw: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    height, width = image_hw
    rows = int(min(photograph.shape[0], photograph.shape[1] * height / width) * rng.uniform(0.25, 1))
    columns = rows * width // height
    top = rng.integers(photograph.shape[0] - rows + 1)
    left = rng.integers(photograph.shape[1] - columns + 1)
    cut = photograph[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    small = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.clip(small * rng.uniform(0.5, 1.4) * (1 + rng.normal(0, 0.15, 3)), 0, 1).astype(np.float32)


def _gradient(image_hw: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    height, width = image_hw
    angle = rng.uniform(0, 6.3)
    rows, columns = np.mgrid[0:height, 0:width]
    along = (columns / width - 0.5) * np.cos(angle) + (rows / height - 0.5) * np.sin(angle) + 0.5
    start, end = _cloth_color(rng), _cloth_color(rng)
    if rng.random() < 0.5:  # one wall, unevenly lit
        end = start * rng.uniform(0.4, 1.2)
    picture = (start + (end - start) * np.clip(along, 0, 1)[..., None]).astype(np.float32)
    if rng.random() < 0.5:  # clouds, at several scales
        for cells in (4, 9, 20, 45):
            noise = rng.normal(0, 1, (cells, cells, 3)).astype(np.float32) * rng.uniform(0, 0.5) / cells**0.5
            noise = noise.mean(axis=2, keepdims=True) if rng.random() < 0.6 else noise
            picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).reshape(
                height, width, -1
            )
    return np.clip(picture, 0, 1)


def _paint_shapes(picture: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Paint shapes of all sizes over one another, each with a gradient, stripes or noise of its own."""
    height, width = picture.shape[:2]
    for size in np.sort(rng.pareto(1.2, rng.integers(2, 25)))[::-1]:
        extent = min(0.04 + 0.08 * size, 0.7) * height
        center = rng.random(2) * (width, height)
        mask = np.zeros((height, width), np.uint8)
        kind = rng.integers(4)
        if kind == 0:
            axes = (int(extent * rng.uniform(0.3, 1)), int(extent))
            cv2.ellipse(
                mask, center.astype(int).tolist(), axes, rng.uniform(0, 180), 0, 360, (1,), cv2.FILLED
            )
        elif kind == 1:
            corners = center + rng.normal(0, 0.7, (rng.integers(3, 6), 2)) * extent
            cv2.fillPoly(mask, [corners.astype(np.int32)], (1,))
        else:
            rectangle = (
                center.tolist(),
                (extent * rng.uniform(0.1, 1), extent * 2),
                rng.normal(0, 8 if kind == 2 else 60),
            )
            cv2.fillPoly(mask, [cv2.boxPoints(rectangle).astype(np.int32)], (1,))
        left, top, columns, rows = cv2.boundingRect(mask)
        region = slice(top, top + rows), slice(left, left + columns)
        across = np.arange(left, left + columns, dtype=np.float32)
        shades = np.ones((rows, columns), np.float32)
        if rng.random() < 0.7:
            shades *= 1 + rng.uniform(-0.6, 0.6) * (across - np.float32(center[0])) / np.float32(extent)
        if rng.random() < 0.3:
            down = np.arange(rows, dtype=np.float32)[:, None]
            stripes = np.sin(across * rng.uniform(0.05, 0.8) + down * rng.normal(0, 0.4))
            shades *= 1 + rng.uniform(0, 0.8) * np.sign(stripes)
        where = mask[region].astype(bool)
        picture[region][where] = np.clip(shades[where, None] * _cloth_color(rng), 0, 1)
