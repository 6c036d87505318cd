"""The recipes of the second family.

Source: `facebookresearch/sapiens2`, its configs, pipelines, model classes and demo scripts of April and May
2026. Its pipelines differ by task: in how an image is fitted, and by what it is interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sapiens_core.contract.settings import Fit, Interpolation, Preprocess
from sapiens_core.contract.steps import StepSpec
from sapiens_core.contract.tensors import (
    ALBEDO,
    ALBEDO_MAP,
    ALPHA,
    BBOXES,
    BLURRED_MAX,
    CHECKED_IMAGE,
    CLASS_MAP,
    CROPS,
    FEATURE_MAP,
    FINISH_HW,
    FOCAL_LENGTH,
    FOREGROUND,
    HEATMAP_STRIDE,
    IMAGE,
    IMAGE_HW,
    INTRINSICS,
    KEYPOINTS,
    MARGIN_RANGE,
    MARGINS,
    MATTE,
    NORMAL_MAP,
    NORMALS,
    PATCHES,
    PEAKS,
    PERSON_BBOXES,
    PIXELS,
    POINT_MAP,
    POINT_MAP_SCALE,
    POINTS,
    SCALE,
    SCORES,
    VALID,
    TensorSpec,
)
from sapiens_core.recipes.recipe import (
    PATCH_SIZE,
    FamilySpec,
    Labels,
    Preparation,
    Recipe,
    Reduction,
    SizeSpec,
    Task,
    Tolerances,
    VariantSpec,
)
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS

FAMILY = "sapiens2"
LICENCE = "Sapiens2"
_IN_TORCH = "sapiens_core.finish.in_torch"
# A scale of 1 stands for a camera whose focal length is as many pixels as the network's input is wide.
# Source: the training transform, which brings every camera to a focal length of 768 pixels at 1024 x 768.
NETWORK_HW = (1024, 768)
# Metres; what lies nearer or farther is no measurement. Source: the limits of the pointmap demo's colours.
DEPTH_RANGE = (0.1, 250.0)

_PEAK_TENSORS = (PEAKS, SCORES, PATCHES, BLURRED_MAX)
_MAX_ERROR = {"max_error": 2e-4}  # forty layers of normed and gated products; at a width of 48, 2e-5 is seen


def _prepared(fit: Fit, interpolation: Interpolation) -> Mapping[Preprocess, Preparation]:
    return MappingProxyType({"full": Preparation(NORMALIZATIONS["full"], interpolation, fit)})


@dataclass(frozen=True)
class _Preprocess:
    """The step that prepares images for some tasks, and how.

    Attributes:
        step: It; networks whose images are prepared in the same way share it.
        preparations: How.
    """

    step: StepSpec
    preparations: Mapping[Preprocess, Preparation]


def _whole_images(name: str, fit: Fit, interpolation: Interpolation) -> _Preprocess:
    outputs = (PIXELS, IMAGE_HW, FINISH_HW)
    step = StepSpec(f"{FAMILY}_{name}_preprocess", "image", inputs=(IMAGE,), outputs=outputs)
    return _Preprocess(step, _prepared(fit, interpolation))


_LETTERBOXED = _whole_images("dense", "centered_letterbox", "bilinear")


@dataclass(frozen=True)
class _Finishing:
    """How what an engine returns becomes results as large as the image.

    Attributes:
        function: From the ones to the others, see `Recipe`.
        takes: What the engine returns.
        returns: The results.
        torch_function: The function's form in torch; empty: there is none.
    """

    function: str
    takes: tuple[TensorSpec, ...]
    returns: tuple[TensorSpec, ...]
    torch_function: str = ""


def _dense(
    task: Task,
    preprocess: _Preprocess,
    finishing: _Finishing,
    variant: VariantSpec,
    tolerances: Tolerances,
    *,
    reduction: Reduction = "map",
    labels: Labels = "",
) -> Recipe:
    """Return the recipe of a task whose network answers for every pixel of its input."""
    return Recipe(
        family=FAMILY,
        task=task,
        preprocess=preprocess.step,
        preparations=preprocess.preparations,
        engine=StepSpec(f"{task}_engine", "engine", inputs=(PIXELS,), outputs=finishing.takes),
        reduction=reduction,
        postprocess=StepSpec(
            f"{task}_postprocess", "finish", inputs=(*finishing.takes, FINISH_HW), outputs=finishing.returns
        ),
        finish=finishing.function,
        torch_finish=finishing.torch_function,
        outputs=(*finishing.returns, IMAGE_HW),
        network_hw=NETWORK_HW,
        output_stride=1,
        head=None,
        variants=(variant,),
        tolerances=tolerances,
        labels=labels,
        raw_outputs=(*finishing.takes, IMAGE_HW),
    )


_POSE = Recipe(
    family=FAMILY,
    task=Task.POSE,
    preprocess=StepSpec(
        f"{FAMILY}_pose_preprocess",
        "persons",
        inputs=(CHECKED_IMAGE, BBOXES),
        outputs=(PIXELS, CROPS, PERSON_BBOXES, IMAGE_HW),
    ),
    preparations=_prepared("stretch", "area_or_bicubic"),
    engine=StepSpec("pose_engine", "engine", inputs=(PIXELS,), outputs=_PEAK_TENSORS),
    reduction="peaks",
    postprocess=StepSpec(
        "pose_postprocess", "finish", inputs=(*_PEAK_TENSORS, CROPS), outputs=(KEYPOINTS, SCORES)
    ),
    finish="sapiens_core.finish.pose:finish",
    outputs=(KEYPOINTS, SCORES, PERSON_BBOXES, IMAGE_HW),
    network_hw=NETWORK_HW,
    output_stride=HEATMAP_STRIDE,
    head=None,
    variants=(VariantSpec(308, patch_padding=0, labels="goliath"),),
    tolerances=Tolerances(
        float32=_MAX_ERROR | {"median_distance": 0.01, "p99_distance": 0.1},
        reduced={"median_distance": 0.1, "p99_distance": 1.0},
    ),
    labels="keypoints",
)
_SEG = _dense(
    Task.SEG,
    _whole_images("seg", "stretch", "area_or_bicubic"),
    _Finishing(
        "sapiens_core.finish.margins:finish",
        (MARGINS, MARGIN_RANGE),
        (CLASS_MAP,),
        f"{_IN_TORCH}:margins",
    ),
    VariantSpec(29, patch_padding=0, labels="sapiens2"),
    # A difference of float32 rounding may become one step of a byte.
    Tolerances(float32={"max_error": 0.01, "unequal_classes": 1e-3}, reduced={"unequal_classes": 0.005}),
    reduction="margins",
    labels="classes",
)
_NORMAL = _dense(
    Task.NORMAL,
    _LETTERBOXED,
    _Finishing(
        "sapiens_core.finish.normal:finish_letterboxed",
        (NORMAL_MAP,),
        (NORMALS,),
        f"{_IN_TORCH}:letterboxed_normal",
    ),
    VariantSpec(3, patch_padding=0),
    Tolerances(float32=_MAX_ERROR, reduced={"mean_angle": 0.5, "p99_angle": 3.0}),
)
_POINTMAP = _dense(
    Task.POINTMAP,
    _LETTERBOXED,
    _Finishing(
        "sapiens_core.finish.pointmap:finish",
        (POINT_MAP, POINT_MAP_SCALE),
        (POINTS, SCALE, FOCAL_LENGTH, INTRINSICS, VALID),
    ),
    VariantSpec(3, patch_padding=0),
    Tolerances(
        float32=_MAX_ERROR | {"scale_error": 1e-3}, reduced={"mean_error": 0.005, "scale_error": 0.01}
    ),
)
_MATTING = _dense(
    Task.MATTING,
    _whole_images("matting", "stretch", "area_or_bilinear"),
    _Finishing("sapiens_core.finish.matting:finish", (MATTE,), (ALPHA, FOREGROUND)),
    VariantSpec(4, patch_padding=0),
    Tolerances(float32=_MAX_ERROR, reduced={"mean_error": 0.005}),
)
_ALBEDO = _dense(
    Task.ALBEDO,
    _LETTERBOXED,
    _Finishing("sapiens_core.finish.albedo:finish", (ALBEDO_MAP,), (ALBEDO,)),
    VariantSpec(3, patch_padding=0),
    Tolerances(float32=_MAX_ERROR, reduced={"mean_error": 0.005}),
)
_FEATURES = Recipe(
    family=FAMILY,
    task=Task.FEATURES,
    preprocess=StepSpec(
        f"{FAMILY}_features_preprocess", "image", inputs=(IMAGE,), outputs=(PIXELS, IMAGE_HW)
    ),
    # Source: the image processor of transformers; the authors publish none for the bare backbone.
    preparations=_prepared("stretch", "antialiased_bilinear"),
    engine=StepSpec("features_engine", "engine", inputs=(PIXELS,), outputs=(FEATURE_MAP,)),
    reduction="map",
    postprocess=None,
    finish="",
    outputs=(FEATURE_MAP, IMAGE_HW),
    network_hw=NETWORK_HW,
    output_stride=PATCH_SIZE,
    head=None,
    variants=(VariantSpec(0, patch_padding=0),),
    tolerances=Tolerances(float32=_MAX_ERROR, reduced={"mean_error": 0.005}),
)

SAPIENS2 = FamilySpec(
    licence=LICENCE,
    sizes=MappingProxyType(
        {
            "0.1b": SizeSpec(embed_dim=768, num_layers=12, num_heads=12),
            "0.4b": SizeSpec(embed_dim=1024, num_layers=24, num_heads=16),
            "0.8b": SizeSpec(embed_dim=1280, num_layers=32, num_heads=16),
            "1b": SizeSpec(embed_dim=1536, num_layers=40, num_heads=24),
            "1b-4k": SizeSpec(embed_dim=1536, num_layers=40, num_heads=24, window=4, num_window_layers=4),
            "5b": SizeSpec(embed_dim=2432, num_layers=56, num_heads=32),
        }
    ),
    recipes=MappingProxyType(
        {recipe.task: recipe for recipe in (_NORMAL, _SEG, _POSE, _FEATURES, _POINTMAP, _MATTING, _ALBEDO)}
    ),
)
