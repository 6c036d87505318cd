"""A detector's candidates to the persons of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.contract.limits import check_size
from sapiens_core.prepare.geometry import MIN_BBOX_SIDE
from sapiens_core.prepare.letterbox import fitted_hw
from sapiens_core.recipes.detectors import MAX_PERSON_OVERLAP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings


def detected_persons(
    candidate_bboxes: NDArray[np.float32],
    candidate_scores: NDArray[np.float32],
    image_hw: tuple[int, int],
    settings: StepSettings,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Choose the persons among a detector's candidates.

    Args:
        candidate_bboxes: (C, 4) float32, xyxy, pixels of the network's input.
        candidate_scores: (C,) float32, 0 to 1.
        image_hw: Height and width of the image.
        settings: Size of the network's input, how the image was fitted into it, and the least score.

    Returns:
        bboxes: (N, 4) float32, xyxy, image pixels, within the image; N may be 0.
        scores: (N,) float32, the best first, all above the least score.

    Raises:
        ValueError: The shapes do not fit together, or there are no images of that size.

    Source: Sapiens pose demos: score above 0.3, unless a detector needs another one, then non-maximum
    suppression at 0.3. A box of which less than a pixel lies in the image is dropped here, because nothing
    can be cropped by it.
    """
    _check_candidates(candidate_bboxes, candidate_scores)
    check_size(image_hw[1], image_hw[0])
    (height, width), fitted = image_hw, fitted_hw(image_hw, settings.network_hw, settings.fit)
    zoom = np.array([width / fitted[1], height / fitted[0]] * 2, dtype=np.float32)
    bboxes = (candidate_bboxes * zoom).clip(0, np.array([width, height] * 2, dtype=np.float32))
    # Comparisons with NaN are false, so that neither a score nor a side that is none passes.
    is_visible = (bboxes[:, 2:] - bboxes[:, :2] >= MIN_BBOX_SIDE).all(axis=1)
    is_person = is_visible & (candidate_scores > settings.min_score)
    bboxes, scores = bboxes[is_person], candidate_scores[is_person]
    kept = suppressed(bboxes, scores, max_overlap=MAX_PERSON_OVERLAP)
    return bboxes[kept], scores[kept]


def finish(
    candidate_bboxes: NDArray[np.float32],
    candidate_scores: NDArray[np.float32],
    finish_hw: NDArray[np.int32],
    settings: StepSettings,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Do what the ensemble's last step does: (1, C, 4), (1, C) and the image's size to (N, 4) and (N,)."""
    height, width = finish_hw.tolist()
    return detected_persons(candidate_bboxes[0], candidate_scores[0], (height, width), settings)


def suppressed(
    bboxes: NDArray[np.float32], scores: NDArray[np.float32], *, max_overlap: float
) -> NDArray[np.int64]:
    """Keep the best of several boxes of the same thing (greedy non-maximum suppression).

    Args:
        bboxes: (N, 4) float32, xyxy, pixels.
        scores: (N,) float32.
        max_overlap: Largest intersection over union of two boxes that both stay.

    Returns:
        (M,) indices of the boxes that stay, the best first; equally good ones in their order.

    Source: Sapiens `nms`, whose corners are pixels that belong to the box: its sides are one longer than the
    differences of the corners.
    """
    sides = bboxes[:, 2:] - bboxes[:, :2] + 1
    areas = sides[:, 0] * sides[:, 1]
    remaining = np.argsort(-scores, kind="stable")
    kept = []
    while len(remaining):
        best, remaining = remaining[0], remaining[1:]
        kept.append(best)
        upper_left = np.maximum(bboxes[best, :2], bboxes[remaining, :2])
        lower_right = np.minimum(bboxes[best, 2:], bboxes[remaining, 2:])
        shared_sides = (lower_right - upper_left + 1).clip(0)
        shared = shared_sides[:, 0] * shared_sides[:, 1]
        overlaps = shared / (areas[best] + areas[remaining] - shared)
        remaining = remaining[overlaps <= max_overlap]
    return np.array(kept, dtype=np.int64)


def _check_candidates(bboxes: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
    if bboxes.ndim != 2 or bboxes.shape[1] != 4 or scores.shape != bboxes.shape[:1]:
        raise ValueError(
            f"candidate_bboxes must be (C, 4) and candidate_scores (C,), got {bboxes.shape} and "
            f"{scores.shape}; pass one image at a time"
        )
