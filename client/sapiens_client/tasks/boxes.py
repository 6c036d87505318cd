"""Boxes of persons, as callers have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_client.results.detections import DetectionResult
from sapiens_client.results.people import PoseResult
from sapiens_core.contract.limits import LIMITS
from sapiens_core.prepare import geometry

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_BOX_NUMBERS = 4
_MAX_COLUMNS = 6  # with a score and a class, as detectors have them


class HasXyxy(Protocol):
    """What other libraries have as boxes: `xyxy` is (N, 4) or more columns, image pixels."""

    @property
    def xyxy(self) -> Any:
        """The boxes."""


Boxes: TypeAlias = "ArrayLike | HasXyxy | DetectionResult | PoseResult"


def checked_bboxes(bboxes: Boxes) -> NDArray[np.float32]:
    """Return boxes as (N, 4) float32, also none.

    Args:
        bboxes: (N, 4) numbers, xyxy, image pixels; (N, 5) with a score or (N, 6) with a score and a class,
            which are not looked at further; (4,), (5,) or (6,) for one box; or what has them as `xyxy`;
            or a result.

    Raises:
        InvalidInputError: They are no such numbers, too many, or one of them is not finite, far away,
            smaller than a pixel, or left of or above every image.
    """
    if isinstance(bboxes, DetectionResult | PoseResult):
        bboxes = bboxes.bboxes
    boxes = _columns(getattr(bboxes, "xyxy", bboxes))
    if not len(boxes):
        return boxes
    try:
        # What lies beyond the image on the right or below only the server can see.
        return geometry.checked_bboxes(boxes, max_bboxes=LIMITS.max_bboxes)
    except ValueError as error:
        raise InvalidInputError(str(error)) from error


def _columns(bboxes: Any) -> NDArray[np.float32]:
    """Return the (N, 4) numbers of boxes with or without scores and classes."""
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
            boxes = np.asarray(bboxes, dtype=np.float32)
    except Exception as error:  # what other libraries have as boxes raises anything
        raise InvalidInputError(f"bboxes must be (N, 4) numbers, got {bboxes!r:.80}: {error}") from error
    if boxes.shape == (0,):
        return np.zeros((0, _BOX_NUMBERS), dtype=np.float32)
    if boxes.ndim == 1:
        boxes = boxes[None]
    if boxes.ndim != 2 or not _BOX_NUMBERS <= boxes.shape[1] <= _MAX_COLUMNS:
        raise InvalidInputError(
            "bboxes must be (N, 4), or with scores and classes (N, 5) or (N, 6), "
            f"got shape {np.shape(bboxes)}; pass x1, y1, x2, y2 per person"
        )
    scores = boxes[:, _BOX_NUMBERS:][:, :1]
    if (is_none := ~((scores >= 0) & (scores <= 1))).any():
        raise InvalidInputError(
            f"bboxes must have a score of 0..1 as fifth number, got {scores[is_none][0]:g}; "
            "pass x1, y1, x2, y2 first"
        )
    return np.ascontiguousarray(boxes[:, :_BOX_NUMBERS])
