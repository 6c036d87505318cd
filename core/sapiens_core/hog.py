"""OpenCV's built-in people detector as an engine: it needs no weights, no torch and no GPU.

Histograms of oriented gradients and a linear classifier (Dalal and Triggs, 2005), trained on upright,
unhidden people. It is there so that people can be found without any download; a network finds more of them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sapiens_core.tasks import NUM_HOG_CANDIDATES

if TYPE_CHECKING:
    from numpy.typing import NDArray

# It looks at windows of 64 x 128 pixels, in which a person is 96 pixels high. These are OpenCV's own
# steps between windows and between scales: halving them finds a few more people, and twice the false ones.
_STRIDE = (8, 8)
_ZOOM_STEP = 1.05
_MARGIN = (16, 16)  # of a window around the person; with as much around the image, a person may fill it
# Left, top, right and bottom of the person within a window. Source: OpenCV's sample `peopledetect`.
_PERSON_IN_WINDOW = np.array([0.1, 0.07, 0.9, 0.87], dtype=np.float32)


def hog_candidates(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Look for people.

    Args:
        pixels: (B, H, W, 3) uint8, RGB, not stretched. People of 96 pixels and more are seen.

    Returns:
        candidate_bboxes: (B, C, 4) float32, xyxy, pixels; overlapping ones are not merged. Zero beyond the
            last one.
        candidate_scores: (B, C) float32, 0 to 1, the best first: m / (1 + m) of the distance m from the
            classifier's border. OpenCV takes every m > 0; a score of 0.3 is m = 0.43, below which, in
            pictures without people, most of the false alarms lie.
    """
    bboxes = np.zeros((len(pixels), NUM_HOG_CANDIDATES, 4), dtype=np.float32)
    scores = np.zeros((len(pixels), NUM_HOG_CANDIDATES), dtype=np.float32)
    for index, image in enumerate(pixels):
        found, weights = _detector().detectMultiScale(
            image, winStride=_STRIDE, padding=_MARGIN, scale=_ZOOM_STEP, groupThreshold=0
        )
        distances = np.array(weights, dtype=np.float32).ravel()
        best = np.argsort(-distances, kind="stable")[:NUM_HOG_CANDIDATES]
        windows = np.array(found, dtype=np.float32).reshape(-1, 4)[best]  # x, y, width, height
        bboxes[index, : len(best)] = (
            np.tile(windows[:, :2], 2) + np.tile(windows[:, 2:], 2) * _PERSON_IN_WINDOW
        )
        scores[index, : len(best)] = distances[best] / (1 + distances[best])
    return bboxes, scores


@cache
def _detector() -> cv2.HOGDescriptor:
    detector = cv2.HOGDescriptor()
    detector.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector(), dtype=np.float32))
    return detector
