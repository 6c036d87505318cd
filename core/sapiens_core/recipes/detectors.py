"""The recipe of person detectors, and the facts about the built-in one."""

from __future__ import annotations

from dataclasses import replace

from sapiens_core.contract.steps import StepSpec
from sapiens_core.contract.tensors import (
    CANDIDATE_BBOXES,
    CANDIDATE_SCORES,
    DETECTED_BBOXES,
    DETECTED_SCORES,
    FINISH_HW,
    IMAGE,
    IMAGE_HW,
    PIXELS,
)
from sapiens_core.recipes.recipe import Recipe, Task, Tolerances
from sapiens_core.recipes.sapiens1 import PREPARATIONS

MAX_PERSON_OVERLAP = 0.3  # intersection over union that two persons may have; source: see `MIN_PERSON_SCORE`

# The built-in detector. Its least score is where, on renders and photographs, few false boxes are left.
NANODET_FAMILY = "nanodet"
NANODET_SIZE = "g"
NANODET_LICENCE = "Apache-2.0"
NANODET_MIN_SCORE = 0.4
NUM_NANODET_CANDIDATES = 500  # above the least score, pictures of a hundred people have half as many

DETECT = Recipe(
    family="",
    task=Task.DETECT,
    preprocess=StepSpec("detect_preprocess", "image", inputs=(IMAGE,), outputs=(PIXELS, IMAGE_HW, FINISH_HW)),
    # Source: the image processors of the RT-DETR family; networks of transformers have their own statistics.
    preparations={
        preprocess: replace(how, interpolation="antialiased_bilinear")
        for preprocess, how in PREPARATIONS.items()
    },
    engine=StepSpec(
        "detect_engine", "engine", inputs=(PIXELS,), outputs=(CANDIDATE_BBOXES, CANDIDATE_SCORES)
    ),
    reduction="candidates",
    postprocess=StepSpec(
        "detect_postprocess",
        "finish",
        inputs=(CANDIDATE_BBOXES, CANDIDATE_SCORES, FINISH_HW),
        outputs=(DETECTED_BBOXES, DETECTED_SCORES),
    ),
    finish="sapiens_core.finish.detect:finish",
    outputs=(DETECTED_BBOXES, DETECTED_SCORES, IMAGE_HW),
    network_hw=(416, 416),
    output_stride=1,
    head=None,
    variants=(),
    tolerances=Tolerances(
        float32={"max_error": 1e-4},
        reduced={"median_distance": 0.5, "p99_distance": 3.0, "score_error": 0.02},
    ),
)
