"""A made-up family: a task of its own, the hue of every pixel, and one that others finish otherwise."""

from dataclasses import replace

import numpy as np

from sapiens_core.contract.tensors import TensorSpec
from sapiens_core.images.opencv import resized
from sapiens_core.recipes.recipe import FamilySpec, HeadSpec, Tolerances, VariantSpec
from sapiens_core.recipes.sapiens1 import SAPIENS, Finishing, dense_recipe

HUE = dense_recipe(
    "rainbow",
    "hue",
    Finishing(
        "hue_task:finish",
        TensorSpec("hue_map", "FP32", ("C", "h", "w"), is_batched=True),
        TensorSpec("hue", "FP32", (-1, -1)),
    ),
    HeadSpec("decode_head", "conv_seg", channels=12, num_deconvs=1, num_convs=1),
    (VariantSpec(2, patch_padding=0),),
    tolerances=Tolerances(float32={"max_error": 1e-4}, reduced={"mean_error": 0.005}),
)
DEPTH = replace(SAPIENS.recipes["depth"], family="rainbow", finish="hue_task:finish_depth")
RAINBOW = FamilySpec(licence="none", sizes={}, recipes={"hue": HUE, "depth": DEPTH})


def finish(hue_map, finish_hw, _settings):
    """hue_map (1, 2, h, w), the cosine and sine of an angle; finish_hw (2,) -> hue (H, W) float32 [rad]."""
    cosine, sine = (resized(plane, tuple(finish_hw.tolist())) for plane in hue_map[0])
    return (np.arctan2(sine, cosine),)


def finish_depth(depth_map, finish_hw, _settings):
    """depth_map (1, 1, h, w), finish_hw (2,) -> depth (H, W) float32; smaller is farther."""
    return (-resized(depth_map[0, 0], tuple(finish_hw.tolist())),)
