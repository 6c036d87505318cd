"""Results that a network could have found, by the real pre- and postprocessing around simple formulas.

The same image gives the same arrays. Depth, normals and features follow its brightness; the rest only its
size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sapiens_core.contract.settings import MIN_PERSON_SCORE
from sapiens_core.contract.tensors import (
    BBOX_SCORES,
    BBOXES,
    DETECTED_BBOXES,
    DETECTED_SCORES,
    IMAGE,
    IMAGE_HW,
    KEYPOINTS,
    PERSON_BBOXES,
    RESULT_DTYPE,
    SCORES,
    WHOLE_IMAGE_IF_NOBODY,
)
from sapiens_core.images.codec import decode_bgr
from sapiens_core.images.opencv import float16_of
from sapiens_core.labels import KeypointSet, counterparts, keypoint_set
from sapiens_core.prepare.geometry import person_bboxes
from sapiens_core.prepare.image import image_inputs
from sapiens_core.recipes.combined import PEOPLE_POSE
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task

if TYPE_CHECKING:
    from sapiens_client.testing.models import FakeModel, Networks

    Arrays = dict[str, NDArray[Any]]
    Image = NDArray[np.uint8]  # (H, W, 3), BGR
    Maps = tuple[NDArray[Any], ...]  # an engine's outputs, without a batch axis

# Where a person who faces the camera has the keypoints of "coco", in widths and heights of the box.
_STANDING = (
    *((0.50, 0.07), (0.54, 0.05), (0.46, 0.05), (0.58, 0.07), (0.42, 0.07)),
    *((0.72, 0.20), (0.28, 0.20), (0.84, 0.36), (0.16, 0.36), (0.88, 0.50), (0.12, 0.50)),
    *((0.62, 0.52), (0.38, 0.52), (0.62, 0.73), (0.38, 0.73), (0.62, 0.94), (0.38, 0.94)),
)
_PLASTIC = 1.32471795724474602596  # its powers spread points evenly over a square
_LIKELY_LOGIT = 8.0
_SCALE = 0.8  # a lens a little longer than the canonical one


def halved(request: Any, model: FakeModel, arrays: Arrays) -> Arrays:
    """Return outputs in half precision where the request wants that and the model can."""
    if request.parameters[RESULT_DTYPE].string_param != "FP16":
        return arrays
    names = {tensor.name for tensor in model.outputs if tensor.is_halvable}
    return {name: float16_of(array) if name in names else array for name, array in arrays.items()}


def answer(model: FakeModel, inputs: Arrays, wanted: Collection[str], networks: Networks) -> Arrays:
    """Compute outputs of a model.

    Args:
        model: Which one; no step of others.
        inputs: Its inputs by name, of the right shapes and types.
        wanted: Names of the outputs.
        networks: What it can do.

    Returns:
        At least the outputs that are wanted, by name.

    Raises:
        ValueError: The image or a box cannot be used, in the words of the real server's models.
    """
    image = decode_bgr(inputs[IMAGE.name])
    found: Arrays = {IMAGE_HW.name: np.array(image.shape[:2], dtype=np.int32)}
    if model.name == PEOPLE_POSE.name:
        return found | _people(image, inputs, networks)
    if model.tasks == (Task.POSE,):
        return found | _pose(image, inputs, networks)
    if model.tasks == (Task.DETECT,):
        return found | _detections(image, networks)
    for task in model.tasks:
        found |= _dense(task, image, wanted, networks)
    return found


def _dense(task: str, image: Image, wanted: Collection[str], networks: Networks) -> Arrays:
    spec, settings = first_recipe(task), networks.settings(task)
    lean = [tensor.name for tensor in spec.engine.outputs]
    prepared = image_inputs(image, settings)
    maps = _MAPS[task](_brightness(prepared.pixels, networks.sizes(task)), networks)
    found: Arrays = {name: array[None] for name, array in zip(lean, maps, strict=True)}
    results = [tensor.name for tensor in spec.postprocess.outputs] if spec.postprocess else []
    if set(results).intersection(wanted).difference(lean):
        finished = spec.finished(*found.values(), prepared.finish_hw, settings)
        found |= dict(zip(results, finished, strict=True))
    return found


def _brightness(pixels: NDArray[np.uint8], sizes: Mapping[str, int]) -> NDArray[np.float32]:
    """Return (h, w) float32, 0..1, for (1, H, W, 3) uint8."""
    height, width = sizes["h"], sizes["w"]
    cells = pixels.reshape(height, sizes["H"] // height, width, sizes["W"] // width, 3)
    brightness: NDArray[np.float32] = cells.mean(axis=(1, 3, 4), dtype=np.float32) / np.float32(255)
    return brightness


def _depth_map(brightness: NDArray[np.float32], _: Networks) -> Maps:
    """Return (1, h, w) float32: floor that comes nearer from top to bottom, dark things behind it."""
    rows = np.linspace(2, 1, len(brightness), dtype=np.float32)[:, None]
    depth: NDArray[np.float32] = rows - np.float32(0.25) * brightness
    return (depth[None],)


def _normal_map(brightness: NDArray[np.float32], _: Networks) -> Maps:
    """Return (3, h, w) float32: a dome towards the camera, embossed with the image."""
    height, width = brightness.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    slope_y, slope_x = np.gradient(brightness) if min(height, width) > 1 else (0 * y, 0 * x)
    return (np.stack([x - slope_x, y - slope_y, 0 * x - 1]).astype(np.float32),)


def _logits(brightness: NDArray[np.float32], networks: Networks) -> Maps:
    """Return (C, h, w) float16: a person in the middle, with all classes from top to bottom."""
    height, width = brightness.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    num_classes, background = len(networks.classes.names), networks.classes.background
    bands = np.arange(height)[:, None] * num_classes // height
    classes = np.where((x / 0.6) ** 2 + (y / 0.9) ** 2 < 1, bands, background)
    is_class = classes == np.arange(num_classes)[:, None, None]
    return (np.where(is_class, np.float16(_LIKELY_LOGIT), np.float16(0)),)


def _point_map(brightness: NDArray[np.float32], networks: Networks) -> Maps:
    """Return (3, h, w) float32 and (1,): what the depth map shows, seen by a camera of the canonical lens."""
    ((depth,),) = _depth_map(brightness, networks)
    height, width = brightness.shape
    y, x = np.meshgrid(np.arange(height) - height / 2, np.arange(width) - width / 2, indexing="ij")
    points = np.stack([x / width * depth, y / width * depth, depth]).astype(np.float32)
    return points, np.array([_SCALE], dtype=np.float32)


def _matte(brightness: NDArray[np.float32], _: Networks) -> Maps:
    """Return (4, h, w) float32: something in the middle that fades, grey as the image."""
    height, width = brightness.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    alpha = np.clip(2 - 2 * ((x / 0.6) ** 2 + (y / 0.9) ** 2), 0, 1)
    return (np.stack([*[alpha * brightness] * 3, alpha]).astype(np.float32),)


def _albedo_map(brightness: NDArray[np.float32], _: Networks) -> Maps:
    """Return (3, h, w) float32: the image's brightness, halved towards the middle of the scale."""
    return (np.stack([0.25 + 0.5 * brightness] * 3).astype(np.float32),)


def _features(brightness: NDArray[np.float32], networks: Networks) -> Maps:
    """Return (C, h, w) float32, -1..1: waves over the patches, one frequency a channel."""
    phase = np.arange(brightness.size, dtype=np.float32).reshape(brightness.shape) + brightness
    channels = np.arange(1, networks.num_outputs(Task.FEATURES) + 1, dtype=np.float32)
    return (np.sin(channels[:, None, None] * phase),)


_MAPS: Mapping[str, Callable[[NDArray[np.float32], Networks], Maps]] = {
    Task.DEPTH: _depth_map,
    Task.NORMAL: _normal_map,
    Task.SEG: _logits,
    Task.FEATURES: _features,
    Task.POINTMAP: _point_map,
    Task.MATTING: _matte,
    Task.ALBEDO: _albedo_map,
}


def _detections(image: Image, networks: Networks) -> Arrays:
    """Put the persons side by side; in an image of few columns, one into each."""
    height, width, _ = image.shape
    count = min(networks.num_persons, width)
    edges = np.linspace(0, width, count + 1, dtype=np.float32)
    bboxes = np.zeros((count, 4), dtype=np.float32)
    bboxes[:, 0], bboxes[:, 2], bboxes[:, 3] = edges[:-1], edges[1:], height
    scores = np.linspace(0.95, MIN_PERSON_SCORE + 0.05, count, dtype=np.float32)
    return {DETECTED_BBOXES.name: bboxes, DETECTED_SCORES.name: scores}


def _pose(image: Image, inputs: Arrays, networks: Networks) -> Arrays:
    boxes = person_bboxes(
        inputs.get(BBOXES.name), (image.shape[0], image.shape[1]), max_bboxes=networks.max_batch_size
    )
    return _standing(boxes, networks.keypoints)


def _people(image: Image, inputs: Arrays, networks: Networks) -> Arrays:
    found = _detections(image, networks)
    boxes, scores = found[DETECTED_BBOXES.name], found[DETECTED_SCORES.name]
    option = inputs.get(WHOLE_IMAGE_IF_NOBODY.name)
    if option is not None and option[0] and not len(boxes):
        boxes = person_bboxes(None, (image.shape[0], image.shape[1]), max_bboxes=1)
        scores = np.zeros(1, dtype=np.float32)
    return {**_standing(boxes, networks.keypoints), BBOX_SCORES.name: scores}


def _standing(bboxes: NDArray[np.float32], keypoints: KeypointSet) -> Arrays:
    """Let (N, 4) boxes of persons be filled by people who stand in them."""
    places = _places(keypoints)
    corners, sides = bboxes[:, None, :2], bboxes[:, None, 2:] - bboxes[:, None, :2]
    scores = np.linspace(0.95, 0.55, len(places), dtype=np.float32)
    return {
        KEYPOINTS.name: corners + places * sides,
        SCORES.name: np.tile(scores, (len(bboxes), 1)),
        PERSON_BBOXES.name: bboxes,
    }


def _places(keypoints: KeypointSet) -> NDArray[np.float32]:
    """Return (K, 2) float32, x and y, in widths and heights of the box: inside, and all different."""
    indices = np.arange(1, len(keypoints.names) + 1)[:, None]
    places = 0.1 + 0.8 * (indices / np.array([_PLASTIC, _PLASTIC**2]) % 1)
    for index, known in enumerate(counterparts(keypoint_set("coco"), keypoints)):
        if known:
            places[index] = np.mean([_STANDING[each] for each in known], axis=0)
    chosen: NDArray[np.float32] = places.astype(np.float32)
    return chosen
