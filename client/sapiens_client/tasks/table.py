"""The tasks of the client: their names, their results, and how each is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

from sapiens_client.results.dense import FeatureResult, NormalResult, SegmentationResult
from sapiens_client.results.depth import DepthResult
from sapiens_client.results.detections import DetectionResult
from sapiens_client.results.matting import AlbedoResult, MattingResult
from sapiens_client.results.people import PoseResult
from sapiens_client.results.pointmap import PointmapResult
from sapiens_client.steps import Flow
from sapiens_client.tasks.dense import dense_result
from sapiens_client.tasks.people import detection_result, people_result, pose_result
from sapiens_core.recipes.recipe import Task

if TYPE_CHECKING:
    from sapiens_client.results.base import Result
    from sapiens_client.tasks.call import Call


class AnalysisTask(StrEnum):
    """What can be asked about an image: the methods of the client by name."""

    DEPTH = "depth"
    NORMAL = "normal"
    SEG = "seg"
    POSE = "pose"
    FEATURES = "features"
    POINTMAP = "pointmap"
    MATTING = "matting"
    ALBEDO = "albedo"
    DETECT = "detect"
    PEOPLE = "people"


# For type checkers, which find misspelt ones.
TaskName: TypeAlias = (
    AnalysisTask
    | Literal["depth", "normal", "seg", "pose", "features"]
    | Literal["pointmap", "matting", "albedo", "detect", "people"]
)


@dataclass(frozen=True)
class ClientTask:
    """How a task is asked for when it has no options.

    Attributes:
        kind: Class of the result.
        ask: A call to the flow that ends with the result.
    """

    kind: type[Result]
    ask: Callable[[Call], Flow[Result]]


def _dense(task: Task, kind: type[Result]) -> ClientTask:
    return ClientTask(kind, lambda call: dense_result(call, task, kind))


CLIENT_TASKS: Mapping[AnalysisTask, ClientTask] = MappingProxyType(
    {
        AnalysisTask.DEPTH: _dense(Task.DEPTH, DepthResult),
        AnalysisTask.NORMAL: _dense(Task.NORMAL, NormalResult),
        AnalysisTask.SEG: _dense(Task.SEG, SegmentationResult),
        AnalysisTask.POSE: ClientTask(PoseResult, pose_result),
        AnalysisTask.FEATURES: _dense(Task.FEATURES, FeatureResult),
        AnalysisTask.POINTMAP: _dense(Task.POINTMAP, PointmapResult),
        AnalysisTask.MATTING: _dense(Task.MATTING, MattingResult),
        AnalysisTask.ALBEDO: _dense(Task.ALBEDO, AlbedoResult),
        AnalysisTask.DETECT: ClientTask(DetectionResult, detection_result),
        AnalysisTask.PEOPLE: ClientTask(PoseResult, people_result),
    }
)
