"""The pose of everybody in an image: detect, then crop and decode in batches that the engine takes.

How many people there are is known only after the detector has run, which no ensemble can express. One process
does both, so that the image is decoded once and does not travel between models; only engines are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sapiens_core.finish import detect, pose
from sapiens_core.prepare.geometry import person_bboxes
from sapiens_core.prepare.image import image_inputs
from sapiens_core.prepare.persons import PersonInputs, person_inputs

if TYPE_CHECKING:
    from sapiens_core.contract.settings import PeopleSettings, StepSettings

Engine = Callable[[NDArray[np.uint8]], Sequence[NDArray[Any]]]  # (B, H, W, 3) uint8 RGB to its outputs


@dataclass(frozen=True)
class PeoplePose:
    """Everybody in an image, the most certain first.

    Attributes:
        keypoints: (N, K, 2) float32, x and y, image pixels.
        scores: (N, K) float32.
        person_bboxes: (N, 4) float32, xyxy, image pixels.
        bbox_scores: (N,) float32; 0 for a whole image in which nobody was found.
        image_hw: (2,) int32, height and width of the image.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    person_bboxes: NDArray[np.float32]
    bbox_scores: NDArray[np.float32]
    image_hw: NDArray[np.int32]


def people_pose(
    image_bgr: NDArray[np.uint8],
    detect_engine: Engine,
    pose_engine: Engine,
    settings: PeopleSettings,
    *,
    whole_image_if_nobody: bool = False,
) -> PeoplePose:
    """Find the keypoints of everybody in an image.

    Args:
        image_bgr: (H, W, 3) uint8, BGR.
        detect_engine: The detector's.
        pose_engine: Called as often as there are batches of people.
        settings: What the two engines take.
        whole_image_if_nobody: Take the whole image for a person where nobody is found, as the reference does.
    """
    height, width, _ = image_bgr.shape
    bboxes, bbox_scores = people(image_bgr, detect_engine, settings.detect)
    if whole_image_if_nobody and not len(bboxes):
        bboxes = person_bboxes(None, (height, width), max_bboxes=1)
        bbox_scores = np.zeros(1, dtype=np.float32)
    batches = [
        _keypoints(inputs, pose_engine, settings.pose)
        for inputs in _inputs_by_batch(image_bgr, bboxes, settings.pose)
    ]
    nobody = np.zeros((0, settings.num_keypoints, 3), dtype=np.float32)
    keypoints = np.concatenate([nobody[..., :2], *(keypoints for keypoints, _ in batches)])
    scores = np.concatenate([nobody[..., 2], *(scores for _, scores in batches)])
    return PeoplePose(keypoints, scores, bboxes, bbox_scores, np.array([height, width], dtype=np.int32))


def people(
    image_bgr: NDArray[np.uint8], engine: Engine, settings: StepSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find the people in an image.

    Args:
        image_bgr: (H, W, 3) uint8, BGR.
        engine: The detector's.
        settings: What it takes.

    Returns:
        bboxes: (N, 4) float32, xyxy, image pixels; N may be 0.
        scores: (N,) float32, the best first.
    """
    inputs = image_inputs(image_bgr, settings)
    candidate_bboxes, candidate_scores = engine(inputs.pixels)
    return detect.finish(candidate_bboxes, candidate_scores, inputs.finish_hw, settings)


def person_keypoints(
    image_bgr: NDArray[np.uint8], bboxes: NDArray[np.float32] | None, engine: Engine, settings: StepSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find the keypoints of the persons in boxes.

    Args:
        image_bgr: (H, W, 3) uint8, BGR.
        bboxes: (N, 4) float32, xyxy, image pixels, at most one batch. None: the whole image is one person.
        engine: The pose engine.
        settings: What it takes.

    Returns:
        keypoints: (N, K, 2) float32, x and y, image pixels.
        scores: (N, K) float32.

    Raises:
        ValueError: There are no or too many boxes, or one of them cannot be used.
    """
    return _keypoints(person_inputs(image_bgr, bboxes, settings), engine, settings)


def _inputs_by_batch(
    image_bgr: NDArray[np.uint8], bboxes: NDArray[np.float32], settings: StepSettings
) -> Iterator[PersonInputs]:
    """Yield the batches that the engine takes, each cut out of the image while the engine has the one before.

    There are never more than two: the crops of fifty people at once would be 120 MB.
    """
    size = settings.max_batch_size
    if not len(bboxes):
        return
    inputs = person_inputs(image_bgr, bboxes[:size], settings)
    with ThreadPoolExecutor(1) as beside:
        for start in range(size, len(bboxes), size):
            following = beside.submit(person_inputs, image_bgr, bboxes[start : start + size], settings)
            yield inputs
            inputs = following.result()
    yield inputs


def _keypoints(
    inputs: PersonInputs, engine: Engine, settings: StepSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    peaks, scores, patches, blurred_max = engine(inputs.pixels)
    return pose.finish(peaks, scores, patches, blurred_max, inputs.crops, settings)
