"""The recipes of the first family.

Source: `facebookresearch/sapiens`, training configs, model classes and licence of the first release. Where
its "lite" demos differ from the training configs, those win and the lite value is named as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from sapiens_core.contract.settings import Preprocess
from sapiens_core.contract.steps import StepSpec
from sapiens_core.contract.tensors import (
    BBOXES,
    BLURRED_MAX,
    CHECKED_IMAGE,
    CLASS_MAP,
    CROPS,
    DEPTH,
    DEPTH_MAP,
    FEATURE_MAP,
    FINISH_HW,
    HEATMAP_STRIDE,
    IMAGE,
    IMAGE_HW,
    KEYPOINTS,
    LOGITS,
    NORMAL_MAP,
    NORMALS,
    PATCHES,
    PEAKS,
    PERSON_BBOXES,
    PIXELS,
    SCORES,
    TensorSpec,
)
from sapiens_core.recipes.recipe import (
    PATCH_SIZE,
    FamilySpec,
    HeadSpec,
    Labels,
    Normalization,
    Preparation,
    Recipe,
    SizeSpec,
    Task,
    Tolerances,
    VariantSpec,
)

_FAMILY = "sapiens"
_IN_TORCH = "sapiens_core.finish.in_torch"

NORMALIZATIONS: Mapping[Preprocess, Normalization] = MappingProxyType(
    {
        "full": Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        # The lite demos round to the half; kept for comparison with their output only.
        "lite": Normalization(mean=(123.5, 116.5, 103.5), std=(58.5, 57.0, 57.5)),
    }
)
PREPARATIONS: Mapping[Preprocess, Preparation] = MappingProxyType(
    {preprocess: Preparation(normalization) for preprocess, normalization in NORMALIZATIONS.items()}
)
_DENSE_PREPROCESS = StepSpec(
    "dense_preprocess", "image", inputs=(IMAGE,), outputs=(PIXELS, IMAGE_HW, FINISH_HW)
)
_PEAK_TENSORS = (PEAKS, SCORES, PATCHES, BLURRED_MAX)
_MAX_ERROR = {"max_error": 1e-4}
_LEVELS = {"lost_levels": 0.25}  # float16 outputs lose a half and more, float32 ones of any network few


@dataclass(frozen=True)
class Finishing:
    """How a map becomes an array as large as the image.

    Attributes:
        function: From the one to the other, see `Recipe`.
        takes: What the engine returns.
        returns: What the ensemble returns of it, beside the size of the image.
        torch_function: The function's form in torch; empty: there is none.
    """

    function: str
    takes: TensorSpec
    returns: TensorSpec
    torch_function: str = ""


def dense_recipe(
    family: str,
    task: str,
    finishing: Finishing,
    head: HeadSpec,
    variants: tuple[VariantSpec, ...],
    *,
    tolerances: Tolerances,
    labels: Labels = "",
) -> Recipe:
    """Return the recipe of a task whose result is one array as large as the image.

    Args:
        family: Generation of the networks.
        task: What is predicted.
        finishing: How the engine's output becomes that array.
        head: Layout of the decode head.
        variants: The released sets of outputs, the default one first.
        tolerances: How exact an engine must be.
        labels: What the outputs have names for.
    """
    return Recipe(
        family=family,
        task=task,
        preprocess=_DENSE_PREPROCESS,
        preparations=PREPARATIONS,
        engine=StepSpec(f"{task}_engine", "engine", inputs=(PIXELS,), outputs=(finishing.takes,)),
        reduction="map",
        postprocess=StepSpec(
            f"{task}_postprocess", "finish", inputs=(finishing.takes, FINISH_HW), outputs=(finishing.returns,)
        ),
        finish=finishing.function,
        torch_finish=finishing.torch_function,
        outputs=(finishing.returns, IMAGE_HW),
        network_hw=(1024, 768),
        output_stride=PATCH_SIZE >> head.num_deconvs,
        head=head,
        variants=variants,
        tolerances=tolerances,
        labels=labels,
        raw_outputs=(finishing.takes, IMAGE_HW),
    )


_DEPTH = dense_recipe(
    _FAMILY,
    Task.DEPTH,
    Finishing("sapiens_core.finish.depth:finish", DEPTH_MAP, DEPTH, f"{_IN_TORCH}:depth"),
    HeadSpec("decode_head", "conv_seg", channels=384, num_deconvs=4, num_convs=2),
    (VariantSpec(1, patch_padding=0),),
    tolerances=Tolerances(float32=_MAX_ERROR | _LEVELS, reduced={"mean_error": 0.005} | _LEVELS),
)
_NORMAL = dense_recipe(
    _FAMILY,
    Task.NORMAL,
    Finishing("sapiens_core.finish.normal:finish", NORMAL_MAP, NORMALS, f"{_IN_TORCH}:normal"),
    HeadSpec("decode_head", "conv_seg", channels=768, num_deconvs=3, num_convs=3),
    (VariantSpec(3, patch_padding=2),),
    tolerances=Tolerances(float32=_MAX_ERROR, reduced={"mean_angle": 0.5, "p99_angle": 3.0}),
)
_SEG = dense_recipe(
    _FAMILY,
    Task.SEG,
    Finishing("sapiens_core.finish.seg:finish", LOGITS, CLASS_MAP, f"{_IN_TORCH}:seg"),
    HeadSpec("decode_head", "conv_seg", channels=768, num_deconvs=3, num_convs=3),
    (
        VariantSpec(28, patch_padding=0, labels="goliath"),
        VariantSpec(20, patch_padding=2, labels="cihp"),
        VariantSpec(20, patch_padding=2, labels="lip"),
        VariantSpec(19, patch_padding=0, labels="seg_face"),
    ),
    # A difference of float32 rounding may become one of float16 rounding, in which logits leave.
    tolerances=Tolerances(float32={"max_error": 2e-3}, reduced={"unequal_classes": 0.005}),
    labels="classes",
)
_POSE = Recipe(
    family=_FAMILY,
    task=Task.POSE,
    preprocess=StepSpec(
        "pose_preprocess",
        "persons",
        inputs=(CHECKED_IMAGE, BBOXES),
        outputs=(PIXELS, CROPS, PERSON_BBOXES, IMAGE_HW),
    ),
    preparations=PREPARATIONS,
    engine=StepSpec("pose_engine", "engine", inputs=(PIXELS,), outputs=_PEAK_TENSORS),
    reduction="peaks",
    postprocess=StepSpec(
        "pose_postprocess", "finish", inputs=(*_PEAK_TENSORS, CROPS), outputs=(KEYPOINTS, SCORES)
    ),
    finish="sapiens_core.finish.pose:finish",
    outputs=(KEYPOINTS, SCORES, PERSON_BBOXES, IMAGE_HW),
    network_hw=(1024, 768),
    output_stride=HEATMAP_STRIDE,
    head=HeadSpec("head", "final_layer", channels=768, num_deconvs=2, num_convs=2),
    variants=(
        VariantSpec(308, patch_padding=2, labels="goliath"),
        VariantSpec(133, patch_padding=2, labels="coco_wholebody"),
        VariantSpec(17, patch_padding=2, labels="coco"),
    ),
    # Where the peak of a map without a keypoint lies is a matter of rounding.
    tolerances=Tolerances(
        float32=_MAX_ERROR | {"median_distance": 0.01, "p99_distance": 0.1},
        reduced={"median_distance": 0.1, "p99_distance": 1.0},
    ),
    labels="keypoints",
)
_FEATURES = Recipe(
    family=_FAMILY,
    task=Task.FEATURES,
    preprocess=StepSpec("features_preprocess", "image", inputs=(IMAGE,), outputs=(PIXELS, IMAGE_HW)),
    preparations={
        **PREPARATIONS,
        "full": replace(PREPARATIONS["full"], interpolation="antialiased_bicubic"),
    },
    engine=StepSpec("features_engine", "engine", inputs=(PIXELS,), outputs=(FEATURE_MAP,)),
    reduction="map",
    postprocess=None,
    finish="",
    outputs=(FEATURE_MAP, IMAGE_HW),
    network_hw=(1024, 1024),
    output_stride=PATCH_SIZE,
    head=None,
    variants=(VariantSpec(0, patch_padding=0),),
    tolerances=Tolerances(float32=_MAX_ERROR, reduced={"mean_error": 0.005}),
)

SAPIENS = FamilySpec(
    licence="CC-BY-NC-4.0",
    sizes=MappingProxyType(
        {
            "0.3b": SizeSpec(embed_dim=1024, num_layers=24, num_heads=16),
            "0.6b": SizeSpec(embed_dim=1280, num_layers=32, num_heads=16),
            "1b": SizeSpec(embed_dim=1536, num_layers=40, num_heads=24),
            "2b": SizeSpec(embed_dim=1920, num_layers=48, num_heads=32),
        }
    ),
    recipes=MappingProxyType({recipe.task: recipe for recipe in (_DEPTH, _NORMAL, _SEG, _POSE, _FEATURES)}),
)
