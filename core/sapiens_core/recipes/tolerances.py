"""How far an engine is from the float32 network: the measures, of which every one is an "at most"."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sapiens_core.contract.engines import Precision
from sapiens_core.recipes.recipe import Recipe

# Names of the measures, and their units.
MEASURES: Mapping[str, str] = MappingProxyType(
    {
        # The largest difference, their 99.9th percentile and their mean, of the engine's worst output,
        # as a share of its range; of pose's outputs the scores and the blurred maxima, since what else it
        # returns is at peaks that may be elsewhere.
        "max_error": "of range",
        "p999_error": "of range",
        "mean_error": "of range",
        # How many fewer different numbers there are in the engine's depth of an image than in the network's:
        # seen as steps, and as ripples in normals that are made of it, where mean errors see nothing.
        "lost_levels": "of levels",
        "mean_angle": "deg",  # between unit normals
        "p99_angle": "deg",
        "unequal_classes": "of pixels",
        "scale_error": "of the scale",  # of pointmaps, by which all points are divided
        # Between keypoints, or sides of boxes, in pixels of the network's input.
        "median_distance": "px",
        "p99_distance": "px",
        "score_error": "of 1",  # largest difference between scores of boxes
    }
)
MIN_KEYPOINT_SCORE = 0.5  # half of a sure peak; below, a map may have two, of which rounding chooses one

# Results of random weights hang on rounding: classes and peaks are ties nearly everywhere. So untrained
# engines are held to typical measures alone, and those of reduced precision to wider limits, but for what a
# last layer in float32 does whatever its weights.
UNTRAINED_FACTOR = 10
LOST_LEVELS = "lost_levels"
_LARGEST = "max_error"
_MEAN_SHARE = 0.1  # of the limit of the largest error, which means are far below
_TAILS = ("p99_angle", "p99_distance", "scale_error")  # a random scale may be nearly nothing


def limits(
    recipe: Recipe, precision: Precision, *, untrained: bool, is_gpu: bool = False
) -> Mapping[str, float]:
    """Return the largest allowed values by measure.

    Args:
        recipe: Of the engine's task and family.
        precision: What it computes in.
        untrained: Its weights are random.
        is_gpu: A GPU computes, whose sums have another order than those of the float32 network's run: then
            float32 is judged by all but a thousandth of the differences and by their mean, not by one cell.
    """
    is_float32 = precision == "float32"
    trained = recipe.tolerances.float32 if is_float32 else recipe.tolerances.reduced
    if is_float32 and is_gpu:
        largest = trained[_LARGEST]
        others = {name: value for name, value in trained.items() if name != _LARGEST}
        trained = others | {"p999_error": largest, "mean_error": largest * _MEAN_SHARE}
    if not untrained:
        return trained
    factor = 1 if is_float32 else UNTRAINED_FACTOR
    return {
        name: value if name == LOST_LEVELS else value * factor
        for name, value in trained.items()
        if name not in _TAILS
    }
