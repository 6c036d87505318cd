"""How alike the persons of two frames are: by their boxes, and by their keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_USUAL_SIGMA = 0.07  # about the mean of COCO's, for keypoints of which nobody states one
_FAINT = 0.3  # keypoints with lower scores are guesses


def box_similarity(bboxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of every pair of boxes.

    Args:
        bboxes: (M, 4) float32, xyxy, pixels.
        others: (N, 4) float32, xyxy, pixels.

    Returns:
        (M, N) float32, 0..1; 0 where both are without area.
    """
    lowest = np.maximum(bboxes[:, None, :2], others[None, :, :2])
    highest = np.minimum(bboxes[:, None, 2:], others[None, :, 2:])
    common = (highest - lowest).clip(0).prod(axis=2)
    union = _areas(bboxes)[:, None] + _areas(others)[None] - common
    shares: NDArray[np.float32] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def keypoint_similarity(
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
    others: NDArray[np.float32],
    other_scores: NDArray[np.float32],
    areas: NDArray[np.float32],
    sigmas: Sequence[float] = (),
) -> NDArray[np.float32]:
    """Return COCO's object keypoint similarity of every pair of persons, over keypoints that both show.

    Args:
        keypoints: (M, K, 2) float32, x and y, pixels; NaN is a keypoint that is not there.
        scores: (M, K) float32, about 0..1; keypoints below 0.3 do not count.
        others: (N, K, 2), as `keypoints`.
        other_scores: (N, K), as `scores`.
        areas: (M,) float32, of the boxes of the first persons, square pixels.
        sigmas: Spread of human annotations of every keypoint; empty: 0.07 for all.

    Returns:
        (M, N) float32, 0..1; NaN where a pair shows no keypoint in common.

    Source: COCO's evaluation, which divides by twice the area and the squares of twice the sigmas.
    """
    spreads = np.asarray(sigmas or [_USUAL_SIGMA] * keypoints.shape[1], np.float32)
    squares = np.square(keypoints[:, None] - others[None]).sum(axis=3)
    scales = 2 * areas[:, None, None] * np.square(2 * spreads)
    shown = (scores[:, None] >= _FAINT) & (other_scores[None] >= _FAINT) & np.isfinite(squares)
    agreement = np.exp(-np.where(shown, squares, 0) / np.maximum(scales, np.finfo(np.float32).tiny))
    num_shown = shown.sum(axis=2)
    total = (agreement * shown).sum(axis=2)
    unknown = np.full(total.shape, np.nan, total.dtype)
    means: NDArray[np.float32] = np.divide(total, num_shown, out=unknown, where=num_shown > 0)
    return means


def _areas(bboxes: NDArray[np.float32]) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = (bboxes[:, 2:] - bboxes[:, :2]).clip(0).prod(axis=1)
    return areas
