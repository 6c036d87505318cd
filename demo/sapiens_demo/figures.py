"""Answers as HTML: pictures that name what is under the pointer, who answered, and sentences."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from sapiens_client.errors import SapiensError
from sapiens_core.images.opencv import outlines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.results.base import Result
    from sapiens_core.labels import ClassSet, Color, KeypointSet

MAX_SIDE = 1280  # of what is shown; whole results are in the download
_LETTER_SHARE, _REACH_SHARE = 28, 60  # heights of letters and radii around joints are such parts of a picture


@dataclass(frozen=True)
class _Named:
    """A shape in a picture, in its pixels, and its name, which stands at x and y."""

    name: str
    color: Color
    shape: str
    x: float
    y: float


def shown_size(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Return a picture that is no larger than what is shown."""
    scale = MAX_SIDE / max(picture.size)
    if scale >= 1:
        return picture
    width, height = picture.size
    return picture.resize((max(1, round(width * scale)), max(1, round(height * scale))))


def parts_figure(picture: PIL.Image.Image, class_map: NDArray[np.uint8], classes: ClassSet) -> str:
    """Draw parts over a picture that tell their names and shares of the person.

    Args:
        picture: What is behind, of any size.
        class_map: (H, W) uint8 class ids.
        classes: Their names and colours.

    Returns:
        HTML.
    """
    picture = shown_size(picture)
    small = np.asarray(PIL.Image.fromarray(class_map).resize(picture.size, PIL.Image.Resampling.NEAREST))
    counts = dict(zip(*(each.tolist() for each in np.unique(small, return_counts=True)), strict=True))
    counts.pop(classes.background, None)
    person = sum(counts.values())
    largest_first = sorted(counts, key=lambda each: -counts[each])  # the small ones lie above
    return _figure(
        picture,
        "parts",
        [
            _part(small == each, f"{classes.names[each]} {counts[each] / person:.0%}", classes.palette[each])
            for each in largest_first
        ],
    )


def joints_figure(
    picture: PIL.Image.Image,
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
    keypoint_set: KeypointSet,
    threshold: float = 0.3,
) -> str:
    """Put places over a picture that tell the names and scores of joints.

    Args:
        picture: What is behind, of the size that the keypoints are about.
        keypoints: (N, K, 2) float32, x and y, pixels.
        scores: (N, K) float32.
        keypoint_set: Names and colours.
        threshold: Keypoints with a lower score are left out.

    Returns:
        HTML.
    """
    shown = shown_size(picture)
    scale = shown.width / picture.width
    radius = max(shown.size) / _REACH_SHARE
    joints = []
    for points, confidences in zip((keypoints * scale).tolist(), scores.tolist(), strict=True):
        each = zip(points, confidences, keypoint_set.names, keypoint_set.colors, strict=True)
        for (x, y), score, name, color in each:
            if score >= threshold:
                circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
                joints.append(_Named(f"{name} {score:.2f}", color, circle, x, y))
    return _figure(shown, "joints", joints)


def facts(answers: Mapping[str, Result | SapiensError]) -> str:
    """Tell whose networks answered, under which licences and how fast, or why one did not.

    Args:
        answers: Result or error of every task.

    Returns:
        HTML: a sentence for every network and every error.
    """
    times: dict[str, list[str]] = {}
    errors: list[str] = []
    for task, answer in answers.items():
        if isinstance(answer, SapiensError):
            errors.append(sentence(f"{task}: {answer}", is_error=True))
            continue
        model = answer.model
        network = f"{model.family} {model.size} (licence of the weights: {model.licence})"
        if model.untrained:
            network += ", untrained, so its results mean nothing"
        times.setdefault(network, []).append(f"{task} {answer.timing.total_s * 1e3:.0f} ms")
    told = [sentence(f"{network}: {', '.join(some)}") for network, some in times.items()]
    return "".join([*told, *errors])


def sentence(words: object, *, is_error: bool = False) -> str:
    """Return words as HTML, which is read out when it appears."""
    role = "alert" if is_error else "status"
    return f'<p class="sapiens-{role}" role="{role}">{escape(str(words))}</p>'


def _part(mask: NDArray[np.bool_], name: str, color: Color) -> _Named:
    """Outline (H, W) bool, of at least one pixel; its name stands on it, near its middle."""
    lines = ["M" + " ".join(f"{x},{y}" for x, y in line) + "Z" for line in outlines(mask)]
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    path = f'<path fill-rule="evenodd" d="{"".join(lines)}"/>'
    return _Named(name, color, path, float(columns[nearest]), float(rows[nearest]))


def _figure(picture: PIL.Image.Image, kind: str, named: list[_Named]) -> str:
    width, height = picture.size
    return (
        f'<svg class="sapiens-figure {kind}" viewBox="0 0 {width} {height}" '
        f'font-size="{max(width, height) / _LETTER_SHARE:.0f}" role="group" aria-label="{kind}">'
        f'<image href="{_data_url(picture)}" width="{width}" height="{height}"/>'
        f"{''.join(_groups(named, width))}</svg>"
    )


def _groups(named: list[_Named], width: int) -> Iterator[str]:
    for each in named:
        name, color = escape(each.name), "rgb({}, {}, {})".format(*each.color)
        anchor = "start" if each.x < width / 2 else "end"  # so that it stays inside
        yield (
            f'<g tabindex="0" fill="{color}" role="img" aria-label="{name}"><title>{name}</title>'
            f'{each.shape}<text x="{each.x:.1f}" y="{each.y:.1f}" text-anchor="{anchor}">{name}</text></g>'
        )


def _data_url(picture: PIL.Image.Image) -> str:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
