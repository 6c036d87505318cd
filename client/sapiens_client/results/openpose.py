"""Keypoints in other sets, and in the words of OpenPose, as its readers take them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_client.results.coco import keypoint_triples
from sapiens_core.labels import KeypointSet, counterparts, keypoint_set

if TYPE_CHECKING:
    from numpy.typing import NDArray

OpenPoseBody: TypeAlias = Literal["openpose25", "openpose18"]

_BODIES = ("openpose25", "openpose18")
_VERSION = 1.3  # of the JSON that OpenPose 1.7 writes
_HAND_KEYPOINTS = 21
# Of each further part: its set, and which of the set's keypoints.
_PARTS: Mapping[str, tuple[str, slice]] = MappingProxyType(
    {
        "face_keypoints_2d": ("face70", slice(None)),
        "hand_left_keypoints_2d": ("hands21", slice(_HAND_KEYPOINTS)),
        "hand_right_keypoints_2d": ("hands21", slice(_HAND_KEYPOINTS, None)),
    }
)


class OpenPosePerson(TypedDict):
    """One person; every list is x, y, score for every keypoint, or empty; none is in three dimensions."""

    person_id: list[int]
    pose_keypoints_2d: list[float]
    face_keypoints_2d: list[float]
    hand_left_keypoints_2d: list[float]
    hand_right_keypoints_2d: list[float]
    pose_keypoints_3d: list[float]
    face_keypoints_3d: list[float]
    hand_left_keypoints_3d: list[float]
    hand_right_keypoints_3d: list[float]


class OpenPoseFrame(TypedDict):
    """The persons in an image as a JSON file of OpenPose."""

    version: float
    people: list[OpenPosePerson]


def converted(
    keypoints: NDArray[np.float32], scores: NDArray[np.float32], source: KeypointSet, target: KeypointSet
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Convert keypoints to another set, see `sapiens_core.labels.counterparts`.

    Args:
        keypoints: (N, K, 2) float32, x and y.
        scores: (N, K) float32.
        source: Their set.
        target: The set that is wanted.

    Returns:
        keypoints: (N, T, 2) float32, the mean where one lies between several; NaN where there is none.
        scores: (N, T) float32, the lowest where there are several; 0 where there is none.

    Raises:
        InvalidInputError: The sets have no keypoint in common.
    """
    parts = counterparts(source, target)
    if not any(parts):
        raise InvalidInputError(
            f"keypoint sets must share names, got {source.names[:3]}... and {target.names[:3]}...; "
            "the served network has labels of its own"
        )
    points = np.full((len(keypoints), len(parts), 2), np.nan, np.float32)
    lowest = np.zeros(points.shape[:2], np.float32)
    for index, sources in enumerate(map(list, parts)):
        if sources:
            points[:, index] = keypoints[:, sources].mean(axis=1)
            lowest[:, index] = scores[:, sources].min(axis=1)
    return points, lowest


def openpose_frame(
    keypoints: NDArray[np.float32], scores: NDArray[np.float32], source: KeypointSet, body: OpenPoseBody
) -> OpenPoseFrame:
    """Return persons as OpenPose writes them.

    Args:
        keypoints: (N, K, 2) float32, x and y, image pixels.
        scores: (N, K) float32.
        source: Their set.
        body: The set of the body.

    Raises:
        InvalidInputError: There is no such body, or no keypoint in common with it.
    """
    if body not in _BODIES:
        raise InvalidInputError(f"body must be one of {', '.join(_BODIES)}, got {body!r:.80}")
    lists = {"pose_keypoints_2d": _triples(keypoints, scores, source, keypoint_set(body), slice(None))}
    for name, (target, some) in _PARTS.items():
        lists[name] = _triples(keypoints, scores, source, keypoint_set(target), some)
    return OpenPoseFrame(
        version=_VERSION,
        people=[
            OpenPosePerson(
                person_id=[-1],  # nobody is followed from image to image
                pose_keypoints_2d=lists["pose_keypoints_2d"][person],
                face_keypoints_2d=lists["face_keypoints_2d"][person],
                hand_left_keypoints_2d=lists["hand_left_keypoints_2d"][person],
                hand_right_keypoints_2d=lists["hand_right_keypoints_2d"][person],
                pose_keypoints_3d=[],
                face_keypoints_3d=[],
                hand_left_keypoints_3d=[],
                hand_right_keypoints_3d=[],
            )
            for person in range(len(keypoints))
        ],
    )


def _triples(
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
    source: KeypointSet,
    target: KeypointSet,
    some: slice,
) -> list[list[float]]:
    """Return x, y, score of some keypoints of every person; empty lists where there is at most a wrist."""
    if sum(map(bool, counterparts(source, target)[some])) <= 1:
        return [[] for _ in keypoints]
    points, lowest = converted(keypoints, scores, source, target)
    each = zip(points[:, some], lowest[:, some].clip(0, 1), strict=True)
    return [keypoint_triples(xy, confidences) for xy, confidences in each]
