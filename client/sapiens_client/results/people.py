"""Persons and their keypoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_client.results.base import Result, drawn
from sapiens_client.results.coco import CocoKeypoints, keypoint_triples, person_score
from sapiens_client.results.interop import supervision_keypoints, table
from sapiens_client.results.labels import index_of, keypoint_set_from
from sapiens_client.results.openpose import OpenPoseBody, OpenPoseFrame, converted, openpose_frame
from sapiens_client.results.rows import Rows, picked
from sapiens_client.results.saving import (
    ARRAYS_AND_COCO,
    Format,
    ImageId,
    Writer,
    checked_id,
    checked_image_id,
    write_json,
)
from sapiens_core.labels import KeypointSet, keypoint_set

if TYPE_CHECKING:
    import pandas
    import supervision
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sapiens_core.labels import Color

_DRAWN_FROM = 0.3  # score of a keypoint


@dataclass(frozen=True)
class Keypoint:
    """One keypoint of one person.

    Attributes:
        x: Column, image pixels.
        y: Row, image pixels.
        score: Height of the heatmap's peak, about 0..1.
    """

    x: float
    y: float
    score: float


@dataclass(frozen=True, eq=False)
class Person:
    """The keypoints of one person; `person["left_elbow"]` or `person[7]` is one of them.

    Attributes:
        xy: (K, 2) float32, x and y, image pixels.
        scores: (K,) float32.
        bbox: (4,) float32, xyxy, image pixels: where the person was looked for.
        bbox_score: Of the detector; None: the box was given.
        keypoint_set: Names of the keypoints.
    """

    xy: NDArray[np.float32] = field(repr=False)
    scores: NDArray[np.float32] = field(repr=False)
    bbox: NDArray[np.float32]
    bbox_score: float | None
    keypoint_set: KeypointSet = field(repr=False)

    def __getitem__(self, keypoint: str | int) -> Keypoint:
        """Return a keypoint by name or index.

        Raises:
            InvalidInputError: The network has no such keypoint.
        """
        index = index_of(keypoint, self.keypoint_set.names, "keypoint")
        x, y = self.xy[index].tolist()
        return Keypoint(x, y, self.scores[index].item())

    def __iter__(self) -> Iterator[Keypoint]:
        return (self[index] for index in range(len(self)))

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False, kw_only=True)
class PoseResult(Result):
    """Keypoints of persons, none included: `len(pose)` of them, `for person in pose`, `pose[0]`.

    `pose[mask]` is the result with some of them, such as `pose[pose.person_scores > 0.3]`.
    The arrays are read-only and may be unaligned views of the reply; `.copy()` gives an aligned writable one.

    Attributes:
        keypoints: (N, K, 2) float32, x and y, image pixels. NaN where `to` found no counterpart.
        scores: (N, K) float32, heights of the heatmaps' peaks, about 0..1.
        bboxes: (N, 4) float32, xyxy, image pixels: where the persons were looked for.
        bbox_scores: (N,) float32, 0..1, of the detector; None: the boxes were given without.
        keypoint_set: Names, skeleton and colours of the keypoints.
    """

    keypoints: NDArray[np.float32] = field(repr=False)
    scores: NDArray[np.float32] = field(repr=False)
    bboxes: NDArray[np.float32] = field(repr=False)
    bbox_scores: NDArray[np.float32] | None = field(default=None, repr=False)
    keypoint_set: KeypointSet = field(repr=False)

    writers: ClassVar[Mapping[Format, Writer]] = MappingProxyType(
        {
            **ARRAYS_AND_COCO,
            Format.OPENPOSE: lambda result, path, _: write_json(result.to_openpose(), path),
        }
    )

    @cached_property
    def persons(self) -> tuple[Person, ...]:
        """The persons in the order of their boxes."""
        bbox_scores = [None] * len(self.bboxes) if self.bbox_scores is None else self.bbox_scores.tolist()
        each = zip(self.keypoints, self.scores, self.bboxes, bbox_scores, strict=True)
        return tuple(Person(*facts, self.keypoint_set) for facts in each)

    def __len__(self) -> int:
        return len(self.bboxes)

    def __iter__(self) -> Iterator[Person]:
        return iter(self.persons)

    @overload
    def __getitem__(self, which: int) -> Person: ...
    @overload
    def __getitem__(self, which: Rows) -> PoseResult: ...
    def __getitem__(self, which: int | Rows) -> Person | PoseResult:
        """Return one person, or the result with some of them.

        Raises:
            IndexError: There is no such person.
            InvalidInputError: `which` is neither an index nor a mask, indices or a slice.
        """
        if isinstance(which, int):
            return self.persons[which]
        rows = picked(which, len(self))
        return replace(
            self,
            keypoints=self.keypoints[rows],
            scores=self.scores[rows],
            bboxes=self.bboxes[rows],
            bbox_scores=None if self.bbox_scores is None else self.bbox_scores[rows],
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of every keypoint."""
        return self.keypoint_set.names

    @property
    def legend(self) -> Mapping[str, Color]:
        """RGB of every keypoint that `plot` draws of anybody, by its name, 0..255."""
        is_drawn = (self.scores >= _DRAWN_FROM).any(axis=0).tolist()
        each = zip(self.keypoint_set.names, self.keypoint_set.colors, is_drawn, strict=True)
        return {name: color for name, color, drawn_somewhere in each if drawn_somewhere}

    @property
    def person_scores(self) -> NDArray[np.float32]:
        """Mean of a person's keypoint scores above 0.2, times the box's score: 0..1, float32, shape (N,)."""
        scores = [person_score(each.scores, each.bbox_score) for each in self.persons]
        return np.array(scores, dtype=np.float32)

    def facts(self) -> dict[str, Any]:
        """Return what the arrays are, see `Result.facts`, and the whole set of keypoints."""
        return {**super().facts(), "keypoint_set": asdict(self.keypoint_set)}

    @classmethod
    def _further_fields(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {"keypoint_set": keypoint_set_from(facts["keypoint_set"])}

    def to(self, target: str | KeypointSet) -> PoseResult:
        """Convert to another set of keypoints, by their names.

        Args:
            target: "coco" (17), "coco_wholebody" (133), "goliath" (308); of OpenPose "openpose25" and
                "openpose18", whose neck is the middle of the shoulders, "hands21", the left hand and then the
                right one (42), and "face70"; or a set.

        Returns:
            The keypoints of the set. One that lies halfway between others has the lower of their scores.
            Those that the network does not find are NaN with score 0: the faces of the larger sets follow
            different schemes, and of "face70" the 308 keypoints hold 24.

        Raises:
            InvalidInputError: There is no such set, or the sets have no keypoint in common.
        """
        try:
            target = target if isinstance(target, KeypointSet) else keypoint_set(target)
        except (ValueError, TypeError) as error:  # also of what cannot be the name of anything
            raise InvalidInputError(str(error)) from error
        keypoints, scores = converted(self.keypoints, self.scores, self.keypoint_set, target)
        return replace(self, keypoints=keypoints, scores=scores, keypoint_set=target)

    def to_openpose(self, body: OpenPoseBody = "openpose25") -> OpenPoseFrame:
        """Return the persons as OpenPose writes them, whatever the network's keypoints.

        Keypoints are x, y and score in 0..1; one that the network does not find is three zeros. Hands and
        face are empty lists where it finds none of their keypoints, but perhaps the wrist.

        Args:
            body: "openpose25" (BODY_25), or "openpose18" (COCO).

        Raises:
            InvalidInputError: There is no such body, or the network's keypoints have labels of their own.
        """
        return openpose_frame(self.keypoints, self.scores, self.keypoint_set, body)

    def to_coco(self, *, image_id: ImageId, category_id: int = 1) -> list[CocoKeypoints]:
        """Return one COCO keypoint result per person.

        A keypoint is x, y and its score; one without counterpart is three zeros. A person's score is that of
        the reference's evaluation: the mean of the keypoint scores above 0.2, times the box's score.

        Args:
            image_id: What COCO calls the image.
            category_id: What it calls persons.

        Raises:
            InvalidInputError: The image is called by neither a whole number nor a name.
        """
        image_id, category_id = checked_image_id(image_id), checked_id(category_id, "category_id")
        return [
            CocoKeypoints(
                image_id=image_id,
                category_id=category_id,
                keypoints=keypoint_triples(person.xy, person.scores),
                score=person_score(person.scores, person.bbox_score),
            )
            for person in self.persons
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame with a row per keypoint: person (0, 1, ...), keypoint (its name), x, y, score.

        Raises:
            ImportError: pandas is not installed.
        """
        num_persons, num_keypoints = self.scores.shape
        return table(
            {
                "person": np.repeat(np.arange(num_persons), num_keypoints),
                "keypoint": np.tile(np.array(self.labels, dtype=object), num_persons),
                "x": self.keypoints[:, :, 0].ravel(),
                "y": self.keypoints[:, :, 1].ravel(),
                "score": self.scores.ravel(),
            }
        )

    def to_supervision(self) -> supervision.KeyPoints:
        """Return the persons with the scores of their keypoints; those that `to` did not find are at 0, 0.

        Raises:
            ImportError: supervision is not installed.
        """
        return supervision_keypoints(self.keypoints, self.scores, self.bbox_scores)

    def plot(self, *, threshold: float = _DRAWN_FROM, radius: int = 6, thickness: int = 3) -> Image:
        """Draw keypoints and skeletons over the image, in the reference's colours.

        Args:
            threshold: Keypoints with a lower score are left out, and lines that touch them.
            radius: Of the keypoints, pixels.
            thickness: Of the lines, pixels.

        Raises:
            InvalidInputError: One of them is no number, or too small to draw.
        """
        if (
            not all(isinstance(each, Real) for each in (threshold, radius, thickness))
            or radius < 0
            or thickness < 1
        ):
            raise InvalidInputError(
                "threshold must be a number, radius at least 0 and thickness at least 1 pixel, "
                f"got {threshold!r}, {radius!r} and {thickness!r}"
            )
        from sapiens_core.pictures import pose_picture

        return drawn(
            pose_picture,
            self.image,
            self.keypoints,
            self.scores,
            self.keypoint_set,
            threshold=threshold,
            radius=radius,
            thickness=thickness,
        )
