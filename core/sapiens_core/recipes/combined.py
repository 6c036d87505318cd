"""Models that combine the networks of several tasks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sapiens_core.contract.steps import StepSpec
from sapiens_core.contract.tensors import (
    BBOX_SCORES,
    CHECKED_IMAGE,
    IMAGE_HW,
    KEYPOINTS,
    PERSON_BBOXES,
    SCORES,
    WHOLE_IMAGE_IF_NOBODY,
)
from sapiens_core.recipes.detectors import DETECT
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import SAPIENS

HUMAN = "human"  # name of the ensemble that answers several tasks about one upload
# By family. The first one's tasks also share a decode and a resize; the second's segmentation has its own.
HUMAN_TASKS_OF: Mapping[str, tuple[Task, ...]] = MappingProxyType(
    {
        "sapiens": (Task.DEPTH, Task.NORMAL, Task.SEG),
        "sapiens2": (Task.POINTMAP, Task.NORMAL, Task.SEG),
    }
)
HUMAN_TASKS = HUMAN_TASKS_OF["sapiens"]

# The one model that calls others: how many persons there are, an ensemble cannot know.
PEOPLE_POSE = StepSpec(
    "people_pose",
    "people",
    inputs=(CHECKED_IMAGE, WHOLE_IMAGE_IF_NOBODY),
    outputs=(KEYPOINTS, SCORES, PERSON_BBOXES, BBOX_SCORES, IMAGE_HW),
)
PEOPLE_ENGINES = (DETECT.engine, SAPIENS.recipes[Task.POSE].engine)
