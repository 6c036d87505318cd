"""The whole way from an image file to a result in this process: what the served ensembles must equal.

Every function takes the bytes of an image file and the engine of the task, (B, H', W', 3) uint8 RGB to the
engine's outputs, and raises ValueError where the served ensemble answers INVALID_ARGUMENT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sapiens_core import people
from sapiens_core.images.codec import decode_bgr
from sapiens_core.prepare.image import image_inputs
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import PeopleSettings, Preprocess, StepSettings
    from sapiens_core.people import PeoplePose
    from sapiens_core.recipes.recipe import Recipe
    from sapiens_export.engines.engine import Engine


def image_result(
    recipe: Recipe, encoded: bytes, engine: Engine, settings: StepSettings
) -> tuple[NDArray[Any], ...]:
    """Do all that the ensemble of a task does for a whole image.

    Args:
        recipe: Of the task.
        encoded: The bytes of an image file.
        engine: Of a network for the task.
        settings: What the steps around it are told, see `Recipe.settings`.

    Returns:
        What the last step returns, in the shape that the recipe states of its outputs.
    """
    inputs = image_inputs(decode_bgr(np.frombuffer(encoded, dtype=np.uint8)), settings)
    outputs = engine(inputs.pixels)
    return recipe.finished(*outputs, inputs.finish_hw, settings) if recipe.finish else tuple(outputs)


def depth(encoded: bytes, engine: Engine, input_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Estimate the relative depth of every pixel.

    Args:
        encoded: The bytes of an image file.
        engine: Of a depth network.
        input_hw: Height and width of the engine's input.

    Returns:
        (H, W) float32; larger is farther, no unit.
    """
    return _array(Task.DEPTH, encoded, engine, input_hw, "full")


def normals(
    encoded: bytes, engine: Engine, input_hw: tuple[int, int], *, preprocess: Preprocess = "full"
) -> NDArray[np.float32]:
    """Estimate the surface normal of every pixel: (H, W, 3) float32, unit x, y, z. Arguments: see `depth`."""
    return _array(Task.NORMAL, encoded, engine, input_hw, preprocess)


def classes(
    encoded: bytes, engine: Engine, input_hw: tuple[int, int], *, preprocess: Preprocess = "full"
) -> NDArray[np.uint8]:
    """Find the class of every pixel: (H, W) uint8. Arguments: see `depth`."""
    return _array(Task.SEG, encoded, engine, input_hw, preprocess)


def features(
    encoded: bytes, engine: Engine, input_hw: tuple[int, int], *, preprocess: Preprocess = "full"
) -> NDArray[np.float32]:
    """Compute the feature map of an image: (C, h, w) float32. Arguments: see `depth`."""
    (feature_map,) = _array(Task.FEATURES, encoded, engine, input_hw, preprocess)
    features_of_image: NDArray[np.float32] = feature_map
    return features_of_image


def pose(
    encoded: bytes, engine: Engine, settings: StepSettings, bboxes: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find the keypoints of persons.

    Args:
        encoded: The bytes of an image file.
        engine: Of a pose network.
        settings: Size of the engine's input, largest number of persons, and the way of cropping.
        bboxes: (N, 4) float32, xyxy, image pixels. None: the whole image is one person.

    Returns:
        keypoints: (N, K, 2) float32, x and y, image pixels.
        scores: (N, K) float32.
    """
    image = decode_bgr(np.frombuffer(encoded, dtype=np.uint8))
    return people.person_keypoints(image, bboxes, engine, settings)


def detect(
    encoded: bytes, engine: Engine, settings: StepSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find people: bboxes (N, 4) and scores (N,) float32, the best first. Arguments: see `pose`."""
    return people.people(decode_bgr(np.frombuffer(encoded, dtype=np.uint8)), engine, settings)


def people_pose(
    encoded: bytes,
    detect_engine: Engine,
    pose_engine: Engine,
    settings: PeopleSettings,
    *,
    whole_image_if_nobody: bool = False,
) -> PeoplePose:
    """Find the keypoints of everybody in an image.

    Args:
        encoded: The bytes of an image file.
        detect_engine: Of a detector.
        pose_engine: Of a pose network.
        settings: What the two engines take.
        whole_image_if_nobody: Take the whole image for a person where nobody is found.
    """
    return people.people_pose(
        decode_bgr(np.frombuffer(encoded, dtype=np.uint8)),
        detect_engine,
        pose_engine,
        settings,
        whole_image_if_nobody=whole_image_if_nobody,
    )


def _array(
    task: Task, encoded: bytes, engine: Engine, input_hw: tuple[int, int], preprocess: Preprocess
) -> NDArray[Any]:
    recipe = first_recipe(task)
    (array,) = image_result(recipe, encoded, engine, recipe.settings(input_hw, 1, preprocess))
    return array
