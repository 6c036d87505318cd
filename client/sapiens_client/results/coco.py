"""Results in the words of COCO, as its tools and `pycocotools` read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from sapiens_client.results.saving import ImageId

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_KEYPOINT_SCORE = 0.2


class Rle(TypedDict):
    """A mask as COCO's compressed run lengths, which `pycocotools.mask` decodes.

    Attributes:
        size: Height and width.
        counts: Pixels outside, inside, outside the mask and so on, column by column, as printable ASCII.
    """

    size: list[int]
    counts: str


class CocoKeypoints(TypedDict):
    """One person as a COCO keypoint result; `keypoints` is x, y, score for every keypoint."""

    image_id: ImageId
    category_id: int
    keypoints: list[float]
    score: float


class CocoDetection(TypedDict):
    """One box as a COCO detection result; `bbox` is x, y, width, height."""

    image_id: ImageId
    category_id: int
    bbox: list[float]
    score: float


class CocoSegmentation(TypedDict):
    """The mask of one class as a COCO segmentation result."""

    image_id: ImageId
    category_id: int
    segmentation: Rle
    score: float


def class_rles(class_map: NDArray[np.uint8]) -> dict[int, Rle]:
    """Encode the mask of every class in a map, all in one pass over its pixels.

    Args:
        class_map: (H, W) uint8 class ids.

    Returns:
        Class ids in the map, ascending, to the run lengths of their pixels.
    """
    height, width = class_map.shape
    pixels = class_map.ravel(order="F")
    starts = np.append(0, np.flatnonzero(pixels[1:] != pixels[:-1]) + 1)
    ends = np.append(starts[1:], pixels.size)
    ids_of_runs = pixels[starts]
    rles = {}
    for class_id in np.unique(ids_of_runs).tolist():
        is_mine = ids_of_runs == class_id
        bounds = np.stack([starts[is_mine], ends[is_mine]], axis=1).ravel()
        counts = np.diff(bounds, prepend=0, append=pixels.size)
        runs = counts if counts[-1] else counts[:-1]
        rles[class_id] = Rle(size=[height, width], counts=compressed_counts(runs))
    return rles


def compressed_counts(counts: NDArray[np.int64]) -> str:
    """Write run lengths as COCO does: differences to the run before the last, 5 bits a character.

    Args:
        counts: Run lengths, of shape (N,), of which the first may be 0.

    Source: `rleToString` of pycocotools; a character is 48 + 5 bits + 32 where more of the number follow, the
    lowest bits first, and the fifth of the last ones is the sign.
    """
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2]
    characters, is_used = [], []
    is_open = np.ones(len(values), dtype=bool)
    while is_open.any():
        is_used.append(is_open)
        low = values & 31
        values = values >> 5
        has_more = is_open & (values != np.where(low & 16, -1, 0))
        characters.append(48 + low + 32 * has_more)
        is_open = has_more
    if not characters:
        return ""
    used: NDArray[np.int64] = np.stack(characters, axis=1)[np.stack(is_used, axis=1)]
    return used.astype(np.uint8).tobytes().decode("ascii")


def keypoint_triples(xy: NDArray[np.float32], scores: NDArray[np.float32]) -> list[float]:
    """Return (K, 2) points and (K,) scores as a flat list of x, y, score, all 0 where x, y is missing."""
    triples = np.concatenate([xy, scores[:, None]], axis=1)
    triples[np.isnan(xy).any(axis=1)] = 0
    values: list[float] = triples.ravel().tolist()
    return values


def person_score(scores: NDArray[np.float32], bbox_score: float | None) -> float:
    """Return the score of a person for COCO's average precision.

    Args:
        scores: Those of the keypoints, of shape (K,).
        bbox_score: Score of the box; None: it was given, which counts as 1.

    Source: MMPose `CocoMetric`, which Sapiens evaluates with: the mean of the keypoint scores above 0.2,
    times the score of the box.
    """
    confident = scores[scores > MIN_KEYPOINT_SCORE]
    mean = float(confident.mean()) if confident.size else 0.0
    return mean * (1.0 if bbox_score is None else bbox_score)
