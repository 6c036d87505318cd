"""Stands in for the detector and for `people_pose`: one person per full 10 columns of the image."""

from __future__ import annotations

import numpy as np

from sapiens_core.images.codec import decode_bgr
from sapiens_core.triton.respond import respond

NUM_KEYPOINTS = 17


class TritonPythonModel:
    """image (B,) uint8 -> the outputs of `detect` or `people_pose`; keypoints stand in their box's center."""

    def initialize(self, args):
        self.has_pose = args["model_name"] == "people_pose"

    def execute(self, requests):
        inputs = ("image", "whole_image_if_nobody") if self.has_pose else ("image",)
        return respond(requests, inputs, _people if self.has_pose else _detections)


def _detections(encoded):
    height, width, _ = decode_bgr(encoded).shape
    left = np.arange(width // 10, dtype=np.float32) * 10
    bboxes = np.stack([left, 0 * left, left + 10, 0 * left + height], axis=1)
    scores = np.linspace(1, 0.5, len(left), dtype=np.float32)
    return {"bboxes": bboxes, "scores": scores, "image_hw": np.array([height, width], np.int32)}


def _people(encoded, whole_image_if_nobody):
    found = _detections(encoded)
    bboxes, scores = found["bboxes"], found["scores"]
    if whole_image_if_nobody[0] and not len(bboxes):
        bboxes, scores = np.float32([[0, 0, *found["image_hw"][::-1]]]), np.zeros(1, np.float32)
    centers = (bboxes[:, None, :2] + bboxes[:, None, 2:]) / 2
    return {
        "keypoints": np.repeat(centers, NUM_KEYPOINTS, axis=1),
        "scores": np.full((len(bboxes), NUM_KEYPOINTS), 0.9, np.float32),
        "person_bboxes": bboxes,
        "bbox_scores": scores,
        "image_hw": found["image_hw"],
    }
