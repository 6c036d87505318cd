"""What the channels of pose and segmentation networks stand for, as named and coloured by the reference.

The tables stay in files until somebody asks for them. Standard library only, so that everybody may import it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import NotRequired, TypedDict

Color = tuple[int, int, int]

_NUM_KEYPOINTS = MappingProxyType({"coco": 17, "coco_wholebody": 133, "goliath": 308})  # of networks
_FILES = MappingProxyType(
    {
        **{name: f"keypoints_{size}.json" for name, size in _NUM_KEYPOINTS.items()},
        **{name: f"keypoints_{name}.json" for name in ("openpose25", "openpose18", "hands21", "face70")},
    }
)


class _LinkTable(TypedDict):
    link: tuple[int, int]
    color: Color


class _KeypointTable(TypedDict):
    keypoints: list[str]
    flip_indices: list[int]
    skeleton: list[_LinkTable]
    keypoint_colors: list[Color]
    sigmas: list[float]
    made_of: NotRequired[dict[str, list[str]]]


class _ClassTable(TypedDict):
    classes: list[str]
    palette: list[Color]
    background_index: int


@dataclass(frozen=True)
class Link:
    """One line of a skeleton.

    Attributes:
        start: Index of the keypoint at one end.
        end: Index of the keypoint at the other.
        color: RGB, 0..255.
    """

    start: int
    end: int
    color: Color


@dataclass(frozen=True)
class KeypointSet:
    """The keypoints of one pose network, in the order of its channels.

    Attributes:
        name: Name of the set.
        names: Name of every keypoint; left and right are the person's own.
        flip_indices: For every keypoint, the one that it becomes in a mirrored image.
        skeleton: Lines between keypoints.
        colors: RGB of every keypoint, 0..255.
        sigmas: Spread of human annotations of every keypoint, as COCO's OKS uses it; empty: nobody states it.
    """

    name: str
    names: tuple[str, ...]
    flip_indices: tuple[int, ...]
    skeleton: tuple[Link, ...]
    colors: tuple[Color, ...]
    sigmas: tuple[float, ...]


@dataclass(frozen=True)
class ClassSet:
    """The classes of one segmentation network, in the order of its channels.

    Attributes:
        name: Name of the set.
        names: Name of every class.
        palette: RGB of every class, 0..255.
        background: Index of the class that is no part of a person.
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[Color, ...]
    background: int


@cache
def keypoint_set(name: str) -> KeypointSet:
    """Return a set of keypoints.

    Those of networks are "coco" (17), "coco_wholebody" (133) and "goliath" (308). OpenPose's are
    "openpose25", "openpose18", "hands21", which is the 21 keypoints of the left hand and then those of the
    right one, and "face70".

    Raises:
        ValueError: There is no such set.
    """
    table = _keypoint_table(name)
    return KeypointSet(
        name=name,
        names=tuple(table["keypoints"]),
        flip_indices=tuple(table["flip_indices"]),
        skeleton=tuple(Link(*link["link"], _color(link["color"])) for link in table["skeleton"]),
        colors=tuple(map(_color, table["keypoint_colors"])),
        sigmas=tuple(table["sigmas"]),
    )


def keypoint_set_of_size(num_keypoints: int) -> KeypointSet:
    """Return the set of keypoints that has this many.

    Raises:
        ValueError: None has.
    """
    for name, size in _NUM_KEYPOINTS.items():
        if size == num_keypoints:
            return keypoint_set(name)
    raise ValueError(
        f"keypoints must be {sorted(_NUM_KEYPOINTS.values())}, got {num_keypoints}; name their set"
    )


def counterparts(source: KeypointSet, target: KeypointSet) -> tuple[tuple[int, ...], ...]:
    """Find the keypoints of one set in another.

    The names that sets share mean the same point: the body of "coco", feet and most finger joints of
    "coco_wholebody". Those of OpenPose that "goliath" calls otherwise, or that lie halfway between two
    others, stand in the tables of its sets. The faces of the larger networks follow different schemes; 24
    points of OpenPose's are in both.

    Args:
        source: The set that there are keypoints of.
        target: The set that is wanted.

    Returns:
        For every keypoint of `target`, the indices in `source` of those whose mean it is, as a rule of a
        single one; none where `source` has nothing like it.
    """
    indices = {name: index for index, name in enumerate(source.names)}
    made_of = _keypoint_table(target.name).get("made_of", {}) if target.name in _FILES else {}

    def parts(name: str) -> tuple[int, ...]:
        wanted = [name] if name in indices else made_of.get(name, [])
        return tuple(indices[each] for each in wanted) if indices.keys() >= {*wanted} else ()

    return tuple(map(parts, target.names))


@cache
def class_set(name: str) -> ClassSet:
    """Return a set of classes: "goliath" (28), "sapiens2" (29), "cihp" (20), "lip" (20) or "seg_face" (19).

    Raises:
        ValueError: There is no such set.
    """
    tables: dict[str, _ClassTable] = json.loads(_text("segmentation_classes.json"))
    if name not in tables:
        raise ValueError(f"class set must be one of {sorted(tables)}, got {name!r}")
    table = tables[name]
    return ClassSet(
        name=name,
        names=tuple(table["classes"]),
        palette=tuple(map(_color, table["palette"])),
        background=table["background_index"],
    )


def _keypoint_table(name: str) -> _KeypointTable:
    if name not in _FILES:
        raise ValueError(f"keypoint set must be one of {sorted(_FILES)}, got {name!r}")
    table: _KeypointTable = json.loads(_text(_FILES[name]))
    return table


def _text(file_name: str) -> str:
    return (files("sapiens_core") / "data" / file_name).read_text("utf-8")


def _color(channels: Sequence[int]) -> Color:
    red, green, blue = channels
    return red, green, blue
