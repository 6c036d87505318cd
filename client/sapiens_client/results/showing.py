"""Results in a notebook: pictures that are not too large for one, and their legends."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from sapiens_core.labels import Color

MAX_SIDE = 640  # of a picture; a notebook keeps whatever it shows
_MAX_OPEN = 40  # names; a legend of more is folded


def reduced(picture: Image) -> Image:
    """Return a picture whose longer side has at most `MAX_SIDE` pixels; a smaller one stays as it is."""
    smaller = picture.copy()
    smaller.thumbnail((MAX_SIDE, MAX_SIDE))
    return smaller


def page(picture: Image, legend: Mapping[str, Color]) -> str:
    """Return a picture over its legend as HTML.

    Args:
        picture: What is shown.
        legend: RGB of every name, 0..255.
    """
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=90)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    names = " ".join(_entry(name, color) for name, color in legend.items())
    return (
        f'<img src="data:image/jpeg;base64,{encoded}" width="{picture.width}" height="{picture.height}">'
        f"<details{' open' if len(legend) <= _MAX_OPEN else ''}>"
        f"<summary>{len(legend)} names and their colours</summary>{names}</details>"
    )


def _entry(name: str, color: Color) -> str:
    red, green, blue = color
    square = f'<span style="color: rgb({red}, {green}, {blue})">&#9632;</span>'
    return f'<span style="white-space: nowrap; margin-right: 1em">{square} {escape(name)}</span>'
