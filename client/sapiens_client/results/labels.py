"""The keypoints and classes of a served network, and finding one of them by name."""

from __future__ import annotations

import colorsys
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_core.contract.model_info import ModelInfo
from sapiens_core.labels import ClassSet, Color, KeypointSet, Link, class_set, keypoint_set

T = TypeVar("T")

_MAX_CLASSES = 256  # ids are uint8
_HUE_STEP = 0.618  # the golden ratio: neighbours differ, and no two of many are alike


def keypoints_of(model: ModelInfo, num_keypoints: int) -> KeypointSet:
    """Return what the keypoints of a network are; unlabelled ones are named by their numbers, unlinked."""
    known = _known(keypoint_set, model.labels)
    if known and len(known.names) == num_keypoints:
        return known
    numbers = range(num_keypoints)
    colors = tuple(map(_color, numbers))
    return KeypointSet("", tuple(map(str, numbers)), flip_indices=(), skeleton=(), colors=colors, sigmas=())


def keypoint_set_from(values: Mapping[str, Any]) -> KeypointSet:
    """Return a set of keypoints from its fields as JSON has them.

    Raises:
        KeyError, TypeError: A field is missing or of another form.
    """
    return KeypointSet(
        name=values["name"],
        names=tuple(values["names"]),
        flip_indices=tuple(values["flip_indices"]),
        skeleton=tuple(Link(each["start"], each["end"], _rgb(*each["color"])) for each in values["skeleton"]),
        colors=tuple(_rgb(*color) for color in values["colors"]),
        sigmas=tuple(values["sigmas"]),
    )


def _rgb(red: int, green: int, blue: int) -> Color:
    return red, green, blue


def classes_of(model: ModelInfo) -> ClassSet:
    """Return what the classes of a network are; unlabelled ones are named by their numbers, 0 to 255."""
    numbers = range(_MAX_CLASSES)
    return _known(class_set, model.labels) or ClassSet(
        "", tuple(map(str, numbers)), palette=tuple(map(_color, numbers)), background=0
    )


def index_of(label: str | int, names: Sequence[str], kind: str) -> int:
    """Find a label among the names of its set.

    Args:
        label: A name or an index.
        names: All names.
        kind: What they name, for the error.

    Raises:
        InvalidInputError: There is no such label.
    """
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, int | np.integer) and not isinstance(label, bool) and 0 <= label < len(names):
        return int(label)
    close = difflib.get_close_matches(label, names, n=5, cutoff=0.4) if isinstance(label, str) else []
    hint = f"perhaps {' or '.join(map(repr, close))}" if close else f"choose from {', '.join(names[:30])}"
    if not isinstance(label, str) and isinstance(label, Iterable | slice):
        hint = "ask for one after the other"
    raise InvalidInputError(
        f"{kind} must be one of the network's {len(names)}, by name or index, got {label!r:.80}; {hint}"
    )


def _known(lookup: Callable[[str], T], name: str) -> T | None:
    """Return None for no labels, and for those that a newer server knows: arrays and indices still work."""
    try:
        return lookup(name)
    except ValueError:
        return None


def _color(index: int) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(index * _HUE_STEP % 1, 0.8, 1)
    return int(red * 255), int(green * 255), int(blue * 255)
