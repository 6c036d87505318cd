"""How far two answers are apart: as numbers, whatever they are, and, by task, as what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sapiens_core.contract.settings import MIN_PERSON_SCORE, StepSettings
from sapiens_core.contract.tensors import PATCHES, PEAKS, POINT_MAP_SCALE
from sapiens_core.finish.normal import unit_normals
from sapiens_core.finish.pose import decoded_keypoints
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.tolerances import MIN_KEYPOINT_SCORE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from sapiens_core.recipes.recipe import Recipe
    from sapiens_export.parity.reference import Outputs, Reference

_TAIL, _FAR_TAIL = 99, 99.9  # per cent
# What is at peaks that may be elsewhere, and a single number that is measured by itself.
_NOT_ALIKE = (PEAKS.name, PATCHES.name, POINT_MAP_SCALE.name)


def measured(expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    """Measure how far outputs are from those of the network.

    Args:
        expected: What the network answers to the fixed images, and what kind of answers these are.
        outputs: (B, ...) each, in the order of the recipe.
        wanted: The network's for the same images, likewise.

    Returns:
        Values by name, see `sapiens_core.recipes.tolerances.MEASURES`.
    """
    recipe = expected.recipe
    if recipe.reduction == "candidates":
        outputs = in_order_of(wanted, outputs)
    values = _raw_errors(recipe, outputs, wanted)
    measure = _RESULT_ERRORS.get(recipe.task)
    return values | measure(expected, outputs, wanted) if measure else values


def in_order_of(wanted: Outputs, outputs: Outputs) -> Outputs:
    """Put an engine's rows into the order of the network's: rounding may swap two boxes of a set.

    Args:
        wanted: The network's outputs, (B, rows, ...) each.
        outputs: The engine's, likewise; each row of the network is answered with the most similar one.
    """
    rows, expected = _rows(outputs), _rows(wanted)
    nearest = np.abs(expected[:, :, None] - rows[:, None]).max(axis=3).argmin(axis=2)
    images = np.arange(len(rows))[:, None]
    return [output[images, nearest] for output in outputs]


def _rows(outputs: Outputs) -> NDArray[np.float64]:
    """Put what belongs to one row side by side, each output as a share of its range: (B, rows, numbers)."""
    columns = [output.reshape(*output.shape[:2], -1).astype(np.float64) for output in outputs]
    return np.concatenate([column / (np.ptp(column) or 1) for column in columns], axis=2)


def _raw_errors(recipe: Recipe, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    names = [tensor.name for tensor in recipe.engine.outputs]
    shares = [
        _differences(output, needed) / (_range(needed) or 1)
        for name, output, needed in zip(names, outputs, wanted, strict=True)
        if name not in _NOT_ALIKE
    ]
    return {
        "max_error": float(np.max([share.max() for share in shares])),
        "p999_error": float(np.max([_far_tail(share) for share in shares])),
        "mean_error": float(np.max([share.mean() for share in shares])),
    }


def _far_tail(share: NDArray[np.float64]) -> float:
    with np.errstate(invalid="ignore"):  # between what is no number, which is then no number either
        return float(np.percentile(share, _FAR_TAIL))


def _differences(output: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.float64]:
    differences: NDArray[np.float64] = np.abs(output.astype(np.float64) - wanted)
    return differences


def _range(output: NDArray[Any]) -> float:
    return float(np.ptp(output.astype(np.float64)))


def _depth_errors(_expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    shares = [
        len(np.unique(seen)) / len(np.unique(item)) for seen, item in zip(outputs[0], wanted[0], strict=True)
    ]
    return {"lost_levels": max(0.0, 1 - min(shares))}


def _normal_errors(expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    hw = expected.output_hw
    seen, needed = (
        np.stack([unit_normals(item, None, hw) for item in each[0]]).astype(np.float64)
        for each in (outputs, wanted)
    )
    # Exact for small angles, where the arc cosine is not.
    sines, cosines = np.linalg.norm(np.cross(seen, needed), axis=3), (seen * needed).sum(axis=3)
    angles = np.degrees(np.arctan2(sines, cosines))
    return {"mean_angle": float(angles.mean()), "p99_angle": float(np.percentile(angles, _TAIL))}


def _class_errors(expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    """Compare the classes of images as large as the network's input."""
    _, height, width, _ = expected.pixels.shape
    hw = np.array([height, width], dtype=np.int32)
    settings = StepSettings((height, width), 1)

    def classes(each: Outputs, index: int) -> NDArray[np.uint8]:
        one = (output[index : index + 1] for output in each)
        (found,) = expected.recipe.finished(*one, hw, settings)
        return np.asarray(found)

    unequal = [classes(outputs, index) != classes(wanted, index) for index in range(len(wanted[0]))]
    return {"unequal_classes": float(np.mean(unequal))}


def _scale_errors(_expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    seen, needed = outputs[1].astype(np.float64), wanted[1].astype(np.float64)
    return {"scale_error": float((np.abs(seen - needed) / np.abs(needed)).max())}


def _keypoint_errors(expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    """Compare keypoints that the network is sure of; where there is none, as of random weights, all."""
    network_wh, heatmap_wh = np.array(expected.pixels.shape[2:0:-1]), np.array(expected.output_hw[::-1])
    cells = _cells(outputs, expected.output_hw) - _cells(wanted, expected.output_hw)
    distances = np.linalg.norm(cells * network_wh / (heatmap_wh - 1), axis=2)
    is_sure = wanted[1] >= MIN_KEYPOINT_SCORE
    chosen = distances[is_sure] if is_sure.any() else distances
    return {
        "median_distance": float(np.median(chosen)),
        "p99_distance": float(np.percentile(chosen, _TAIL)),
    }


def _cells(outputs: Outputs, heatmap_hw: tuple[int, int]) -> NDArray[np.float64]:
    peaks, scores, patches, blurred_max = outputs
    return decoded_keypoints(peaks, scores, patches, blurred_max, heatmap_hw).astype(np.float64)


def _box_errors(expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    """Compare the boxes of what may be a person; where there is none, as of random weights, all."""
    is_sure = wanted[1] >= MIN_PERSON_SCORE
    chosen = is_sure if is_sure.any() else np.ones_like(is_sure)
    distances, errors = (_differences(*pair)[chosen] for pair in zip(outputs, wanted, strict=True))
    return {
        "median_distance": float(np.median(distances)),
        "p99_distance": float(np.percentile(distances, _TAIL)),
        "score_error": float(errors.max()),
    }


_RESULT_ERRORS: Mapping[str, Callable[[Reference, Outputs, Outputs], dict[str, float]]] = {
    Task.DEPTH: _depth_errors,
    Task.NORMAL: _normal_errors,
    Task.SEG: _class_errors,
    Task.POINTMAP: _scale_errors,
    Task.POSE: _keypoint_errors,
    Task.DETECT: _box_errors,
}
