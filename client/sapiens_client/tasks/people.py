"""Persons: their boxes, and the keypoints in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_client.results.detections import DetectionResult
from sapiens_client.results.labels import keypoints_of
from sapiens_client.results.people import PoseResult
from sapiens_client.steps import Flow
from sapiens_client.tasks.boxes import checked_bboxes
from sapiens_core.contract.tensors import (
    BBOX_SCORES,
    BBOXES,
    DETECTED_BBOXES,
    DETECTED_SCORES,
    KEYPOINTS,
    PERSON_BBOXES,
    SCORES,
    WHOLE_IMAGE_IF_NOBODY,
)
from sapiens_core.recipes.combined import PEOPLE_POSE
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.tasks.boxes import Boxes
    from sapiens_client.tasks.call import Call
    from sapiens_client.wire.served_model import ServedModel
    from sapiens_core.contract.model_info import ModelInfo

_POSE_OUTPUTS = (KEYPOINTS, SCORES, PERSON_BBOXES)


def pose_result(call: Call, bboxes: Boxes | None = None, model: str | None = None) -> Flow[PoseResult]:
    """Ask for the keypoints of persons, as many at a time as the server takes.

    Args:
        call: About which image.
        bboxes: See `checked_bboxes`; more than fit one request are split. None: the whole image.
        model: Name of the ensemble; None: that of the task.

    Raises:
        InvalidInputError: `bboxes` cannot be boxes of persons.
    """
    boxes = None if bboxes is None else checked_bboxes(bboxes)
    served = yield from call.ensemble(Task.POSE, model)
    if boxes is None:
        return _pose(call, served.info, (yield from call.ask(served.name, _POSE_OUTPUTS)))
    parts = [_no_persons(num_keypoints=served.output_dims[KEYPOINTS.name][1])]
    preprocess = yield from call.served_model(_preprocess_of(served))
    max_boxes = preprocess.settings.max_batch_size
    for start in range(0, len(boxes), max_boxes):
        some = boxes[start : start + max_boxes]
        try:
            parts.append((yield from call.ask(served.name, _POSE_OUTPUTS, **{BBOXES.name: some})))
        except InvalidInputError as error:
            if len(some) == len(boxes):
                raise
            raise InvalidInputError(f"of bboxes[{start}:{start + len(some)}]: {error}") from error
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if isinstance(bboxes, DetectionResult):
        arrays[BBOX_SCORES.name] = bboxes.scores
    return _pose(call, served.info, arrays)


def people_result(call: Call, *, whole_image_if_nobody: bool = False) -> Flow[PoseResult]:
    """Ask for the persons in the image and their keypoints.

    Args:
        call: About which image.
        whole_image_if_nobody: Take the whole image for a person where nobody is found.
    """
    model = (yield from call.served_model(PEOPLE_POSE.name)).info
    option = {WHOLE_IMAGE_IF_NOBODY.name: np.array([bool(whole_image_if_nobody)])}
    arrays = yield from call.ask(PEOPLE_POSE.name, (*_POSE_OUTPUTS, BBOX_SCORES), **option)
    return _pose(call, model, arrays)


def detection_result(call: Call, model: str | None = None) -> Flow[DetectionResult]:
    """Ask for the boxes of the persons in the image.

    Args:
        call: About which image.
        model: Name of the ensemble; None: that of the task.
    """
    served = yield from call.ensemble(Task.DETECT, model)
    arrays = yield from call.ask(served.name, (DETECTED_BBOXES, DETECTED_SCORES))
    return DetectionResult(
        bboxes=arrays[DETECTED_BBOXES.name], scores=arrays[DETECTED_SCORES.name], **call.origin(served.info)
    )


def _preprocess_of(served: ServedModel) -> str:
    """Return the name of the step that crops persons, which differs by family."""
    usual = first_recipe(Task.POSE).preprocess.name
    return next((step for step in served.steps if step.endswith("_preprocess")), usual)


def _no_persons(*, num_keypoints: int) -> Mapping[str, NDArray[Any]]:
    sizes = {KEYPOINTS: (0, num_keypoints, 2), SCORES: (0, num_keypoints), PERSON_BBOXES: (0, 4)}
    return {tensor.name: np.zeros(size, dtype=np.float32) for tensor, size in sizes.items()}


def _pose(call: Call, model: ModelInfo, arrays: Mapping[str, NDArray[Any]]) -> PoseResult:
    keypoints = arrays[KEYPOINTS.name]
    return PoseResult(
        keypoints=keypoints,
        scores=arrays[SCORES.name],
        bboxes=arrays[PERSON_BBOXES.name],
        bbox_scores=arrays.get(BBOX_SCORES.name),
        keypoint_set=keypoints_of(model, keypoints.shape[1]),
        **call.origin(model),
    )
