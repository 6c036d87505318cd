"""What each task asks the server, and the result that its answer becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_client.results.base import Result
from sapiens_client.results.dense import DepthResult, FeatureResult, NormalResult, SegmentationResult
from sapiens_client.results.labels import keypoints_of
from sapiens_client.results.people import DetectionResult, PoseResult
from sapiens_client.steps import Flow
from sapiens_client.tasks.dense import dense_array
from sapiens_core.contract.limits import LIMITS
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
from sapiens_core.prepare import geometry
from sapiens_core.recipes.combined import PEOPLE_POSE
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from sapiens_client.servers.session import Call
    from sapiens_client.tasks.served_model import ServedModel
    from sapiens_core.contract.model_info import ModelInfo

R = TypeVar("R", bound=Result)


class HasXyxy(Protocol):
    """What other libraries have as boxes: `xyxy` is (N, 4) or more columns, image pixels."""

    @property
    def xyxy(self) -> Any:
        """The boxes."""


Boxes: TypeAlias = "ArrayLike | HasXyxy"

_POSE_OUTPUTS = (KEYPOINTS, SCORES, PERSON_BBOXES)
_BOX_NUMBERS = 4
_MAX_COLUMNS = 6  # with a score and a class, as detectors have them


class AnalysisTask(StrEnum):
    """What can be asked about an image: the methods of the client by name."""

    DEPTH = "depth"
    NORMAL = "normal"
    SEG = "seg"
    POSE = "pose"
    FEATURES = "features"
    DETECT = "detect"
    PEOPLE = "people"


# For type checkers, which find misspelt ones.
TaskName: TypeAlias = AnalysisTask | Literal["depth", "normal", "seg", "pose", "features", "detect", "people"]


def dense_results(call: Call, ensemble: str, kinds: Mapping[Task, Callable[..., R]]) -> Flow[dict[Task, R]]:
    """Ask one ensemble for the arrays of some tasks.

    Args:
        call: About which image.
        ensemble: Its name.
        kinds: What to make of the array of each task.
    """
    models: dict[Task, ModelInfo] = {}
    for task in kinds:
        models[task] = (yield from call.served_model(task)).info
    tensors = {task: first_recipe(task).outputs[0] for task in kinds}
    arrays = yield from call.ask(ensemble, tensors.values())
    return {
        task: kind(**{tensors[task].name: arrays[tensors[task].name]}, **call.origin(models[task]))
        for task, kind in kinds.items()
    }


def dense_result(call: Call, task: Task, kind: Callable[..., R], model: str | None = None) -> Flow[R]:
    """Ask for the one array of a task.

    Args:
        call: About which image.
        task: What to ask for.
        kind: What to make of the array.
        model: Name of the ensemble; None: that of the task.
    """
    served = yield from _served(call, task, model)
    array = yield from dense_array(call, task, served)
    return kind(**{first_recipe(task).outputs[0].name: array}, **call.origin(served.info))


def _served(call: Call, task: Task, model: str | None) -> Flow[ServedModel]:
    if model is not None:
        check_model_name(model)
    served = yield from call.served_model(model or task)
    served.check_answers(task)
    return served


def check_model_name(model: object) -> None:
    """Refuse what is no name of a model.

    Raises:
        InvalidInputError: It is none.
    """
    if not isinstance(model, str) or not model:
        raise InvalidInputError(
            f"model must be the name of an ensemble such as 'depth_2b', got {model!r:.80}"
        )


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
    served = yield from _served(call, Task.POSE, model)
    if boxes is None:
        return _pose(call, served.info, (yield from call.ask(served.name, _POSE_OUTPUTS)))
    parts = [_no_persons(num_keypoints=served.output_dims[KEYPOINTS.name][1])]
    preprocess = yield from call.served_model(first_recipe(Task.POSE).preprocess.name)
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
    served = yield from _served(call, Task.DETECT, model)
    arrays = yield from call.ask(served.name, (DETECTED_BBOXES, DETECTED_SCORES))
    return DetectionResult(
        bboxes=arrays[DETECTED_BBOXES.name], scores=arrays[DETECTED_SCORES.name], **call.origin(served.info)
    )


def checked_bboxes(bboxes: Boxes) -> NDArray[np.float32]:
    """Return boxes as (N, 4) float32, also none.

    Args:
        bboxes: (N, 4) numbers, xyxy, image pixels; (N, 5) with a score or (N, 6) with a score and a class,
            which are not looked at further; (4,), (5,) or (6,) for one box; or what has them as `xyxy`.

    Raises:
        InvalidInputError: They are no such numbers, too many, or one of them is not finite, far away,
            smaller than a pixel, or left of or above every image.
    """
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


@dataclass(frozen=True)
class Question:
    """How a task is asked when it has no options.

    Attributes:
        kind: Class of the result.
        ask: A call to the flow that ends with the result.
    """

    kind: type[Result]
    ask: Callable[[Call], Flow[Result]]


def _dense_question(task: Task, kind: type[Result]) -> Question:
    return Question(kind, lambda call: dense_result(call, task, kind))


QUESTIONS: Mapping[AnalysisTask, Question] = MappingProxyType(
    {
        AnalysisTask.DEPTH: _dense_question(Task.DEPTH, DepthResult),
        AnalysisTask.NORMAL: _dense_question(Task.NORMAL, NormalResult),
        AnalysisTask.SEG: _dense_question(Task.SEG, SegmentationResult),
        AnalysisTask.POSE: Question(PoseResult, pose_result),
        AnalysisTask.FEATURES: _dense_question(Task.FEATURES, FeatureResult),
        AnalysisTask.DETECT: Question(DetectionResult, detection_result),
        AnalysisTask.PEOPLE: Question(PoseResult, people_result),
    }
)


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
