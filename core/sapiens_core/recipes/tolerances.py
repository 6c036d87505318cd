"""The registry's part on parity: how far an engine may be from the float32 network.

Every measure is an "at most". What an engine of reduced precision is held to is what users can rely on, not
what the number format usually attains, which is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sapiens_core.contract.engines import Precision
from sapiens_core.recipes.recipe import Task

# Names of the measures, and their units.
MEASURES: Mapping[str, str] = MappingProxyType(
    {
        # Largest and mean difference of the engine's worst output, as a share of its range; of pose's outputs
        # the scores and the blurred maxima, since what else it returns is at peaks that may be elsewhere.
        "max_error": "of range",
        "mean_error": "of range",
        # How many fewer different numbers there are in the engine's depth of an image than in the network's:
        # seen as steps, and as ripples in normals that are made of it, where mean errors see nothing.
        "lost_levels": "of levels",
        "mean_angle": "deg",  # between unit normals
        "p99_angle": "deg",
        "unequal_classes": "of pixels",
        # Between keypoints, or sides of boxes, in pixels of the network's input.
        "median_distance": "px",
        "p99_distance": "px",
        "score_error": "of 1",  # largest difference between scores of boxes
    }
)
MIN_KEYPOINT_SCORE = 0.3  # keypoints below it are not compared; the reference's demos do not draw them

_MAX_ERROR = 1e-4
_LEVELS = "lost_levels"
_MAX_LOST_LEVELS = 0.25  # float16 outputs lose a half of them and more, float32 ones of whatever network few
_FLOAT32: Mapping[Task, Mapping[str, float]] = MappingProxyType(
    {
        **{task: MappingProxyType({"max_error": _MAX_ERROR}) for task in Task},
        Task.DEPTH: MappingProxyType({"max_error": _MAX_ERROR, _LEVELS: _MAX_LOST_LEVELS}),
        # Where the peak of a map without a keypoint lies is a matter of rounding.
        Task.POSE: MappingProxyType({"max_error": _MAX_ERROR, "median_distance": 0.01, "p99_distance": 0.1}),
        # A difference of float32 rounding may become one of float16 rounding, in which logits leave.
        Task.SEG: MappingProxyType({"max_error": 2e-3}),
    }
)
_REDUCED: Mapping[Task, Mapping[str, float]] = MappingProxyType(
    {
        Task.DEPTH: MappingProxyType({"mean_error": 0.005, _LEVELS: _MAX_LOST_LEVELS}),
        Task.NORMAL: MappingProxyType({"mean_angle": 0.5, "p99_angle": 3.0}),
        Task.SEG: MappingProxyType({"unequal_classes": 0.005}),
        Task.POSE: MappingProxyType({"median_distance": 0.1, "p99_distance": 1.0}),
        Task.FEATURES: MappingProxyType({"mean_error": 0.005}),
        Task.DETECT: MappingProxyType({"median_distance": 0.5, "p99_distance": 3.0, "score_error": 0.02}),
    }
)
LIMITS: Mapping[Precision, Mapping[Task, Mapping[str, float]]] = MappingProxyType(
    {"float32": _FLOAT32, "float16": _REDUCED, "bfloat16": _REDUCED}
)

# Results of random weights hang on rounding: classes and peaks are ties nearly everywhere. So untrained
# engines are held to typical measures alone, and those of reduced precision to wider limits, but for what a
# last layer in float32 does whatever its weights.
UNTRAINED_FACTOR = 10
_TAILS = ("p99_angle", "p99_distance")


def limits(task: Task, precision: Precision, *, untrained: bool) -> Mapping[str, float]:
    """Return the largest allowed values by measure.

    Args:
        task: What the engine predicts.
        precision: What it computes in.
        untrained: Its weights are random.
    """
    trained = LIMITS[precision][task]
    if not untrained:
        return trained
    factor = 1 if precision == "float32" else UNTRAINED_FACTOR
    return {
        name: value if name == _LEVELS else value * factor
        for name, value in trained.items()
        if name not in _TAILS
    }
