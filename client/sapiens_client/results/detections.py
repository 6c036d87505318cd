"""Boxes of persons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, overload

import numpy as np

from sapiens_client.results.base import Result, drawn
from sapiens_client.results.coco import CocoDetection
from sapiens_client.results.interop import supervision_boxes, table
from sapiens_client.results.rows import Rows, picked
from sapiens_client.results.saving import (
    ARRAYS_AND_COCO,
    Format,
    ImageId,
    Writer,
    checked_id,
    checked_image_id,
)

if TYPE_CHECKING:
    import pandas
    import supervision
    from numpy.typing import NDArray
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Detection:
    """One box.

    Attributes:
        bbox: (4,) float32, xyxy, image pixels.
        score: 0..1.
    """

    bbox: NDArray[np.float32]
    score: float


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectionResult(Result):
    """Boxes of persons, none included: `len(detections)` of them, `for box in detections`, `detections[0]`.

    `detections[mask]` is the result with some of them, such as `detections[detections.scores > 0.5]`.
    The arrays are read-only and may be unaligned views of the reply; `.copy()` gives an aligned writable one.

    Attributes:
        bboxes: (N, 4) float32, xyxy, image pixels.
        scores: (N,) float32, 0..1.
    """

    bboxes: NDArray[np.float32] = field(repr=False)
    scores: NDArray[np.float32] = field(repr=False)

    writers: ClassVar[Mapping[Format, Writer]] = ARRAYS_AND_COCO

    def __len__(self) -> int:
        return len(self.bboxes)

    def __iter__(self) -> Iterator[Detection]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, which: int) -> Detection: ...
    @overload
    def __getitem__(self, which: Rows) -> DetectionResult: ...
    def __getitem__(self, which: int | Rows) -> Detection | DetectionResult:
        """Return one box, or the result with some of them.

        Raises:
            IndexError: There is no such box.
            InvalidInputError: `which` is neither an index nor a mask, indices or a slice.
        """
        if isinstance(which, int):
            return Detection(self.bboxes[which], self.scores[which].item())
        rows = picked(which, len(self))
        return replace(self, bboxes=self.bboxes[rows], scores=self.scores[rows])

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame with a row per box: x1, y1, x2, y2, score.

        Raises:
            ImportError: pandas is not installed.
        """
        corners = dict(zip(("x1", "y1", "x2", "y2"), self.bboxes.T, strict=True))
        return table({**corners, "score": self.scores})

    def to_supervision(self) -> supervision.Detections:
        """Return the boxes with their scores, all of the class "person".

        Raises:
            ImportError: supervision is not installed.
        """
        return supervision_boxes(self.bboxes, self.scores, "person")

    def to_coco(self, *, image_id: ImageId, category_id: int = 1) -> list[CocoDetection]:
        """Return one COCO detection result per box.

        Args:
            image_id: What COCO calls the image.
            category_id: What it calls persons.

        Raises:
            InvalidInputError: The image is called by neither a whole number nor a name.
        """
        image_id, category_id = checked_image_id(image_id), checked_id(category_id, "category_id")
        corners, sizes = self.bboxes[:, :2], self.bboxes[:, 2:] - self.bboxes[:, :2]
        bboxes = np.concatenate([corners, sizes], axis=1).tolist()
        return [
            CocoDetection(image_id=image_id, category_id=category_id, bbox=bbox, score=score)
            for bbox, score in zip(bboxes, self.scores.tolist(), strict=True)
        ]

    def plot(self) -> Image:
        """Draw the boxes with their scores over the image."""
        from sapiens_core.pictures import boxes_picture

        return drawn(boxes_picture, self.image, self.bboxes, self.scores)
