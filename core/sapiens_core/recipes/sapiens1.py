"""The recipes of the first family.

Source: `facebookresearch/sapiens`, training configs, model classes and licence of the first release. Where
its "lite" demos differ from the training configs, those win and the lite value is named as such.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    FamilySpec,
    HeadSpec,
    Normalization,
    Recipe,
    SizeSpec,
    Task,
    VariantSpec,
)

FAMILIES: Mapping[str, FamilySpec] = MappingProxyType(
    {
        "sapiens": FamilySpec(
            licence="CC-BY-NC-4.0",
            sizes=MappingProxyType(
                {
                    "0.3b": SizeSpec(embed_dim=1024, num_layers=24, num_heads=16),
                    "0.6b": SizeSpec(embed_dim=1280, num_layers=32, num_heads=16),
                    "1b": SizeSpec(embed_dim=1536, num_layers=40, num_heads=24),
                    "2b": SizeSpec(embed_dim=1920, num_layers=48, num_heads=32),
                }
            ),
        ),
    }
)

NORMALIZATIONS: Mapping[Preprocess, Normalization] = MappingProxyType(
    {
        "full": Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        # The lite demos round to the half; kept for comparison with their output only.
        "lite": Normalization(mean=(123.5, 116.5, 103.5), std=(58.5, 57.0, 57.5)),
    }
)

DENSE_PREPROCESS = StepSpec("dense_preprocess", inputs=(IMAGE,), outputs=(PIXELS, IMAGE_HW, FINISH_HW))


def _dense_task(
    task: Task,
    engine_output: TensorSpec,
    result: TensorSpec,
    head: HeadSpec,
    variants: tuple[VariantSpec, ...],
) -> Recipe:
    return Recipe(
        task=task,
        preprocess=DENSE_PREPROCESS,
        engine=StepSpec(f"{task.value}_engine", inputs=(PIXELS,), outputs=(engine_output,)),
        postprocess=StepSpec(
            f"{task.value}_postprocess", inputs=(engine_output, FINISH_HW), outputs=(result,)
        ),
        outputs=(result, IMAGE_HW),
        network_hw=(1024, 768),
        head=head,
        variants=variants,
        raw_outputs=(engine_output, IMAGE_HW),
    )


_DEPTH_HEAD = HeadSpec("decode_head", "conv_seg", channels=384, num_deconvs=4, num_convs=2)
_DENSE_HEAD = HeadSpec("decode_head", "conv_seg", channels=768, num_deconvs=3, num_convs=3)
_PEAK_TENSORS = (PEAKS, SCORES, PATCHES, BLURRED_MAX)

RECIPES: Mapping[Task, Recipe] = MappingProxyType(
    {
        Task.DEPTH: _dense_task(
            Task.DEPTH, DEPTH_MAP, DEPTH, _DEPTH_HEAD, (VariantSpec(1, patch_padding=0),)
        ),
        Task.NORMAL: _dense_task(
            Task.NORMAL, NORMAL_MAP, NORMALS, _DENSE_HEAD, (VariantSpec(3, patch_padding=2),)
        ),
        Task.SEG: _dense_task(
            Task.SEG,
            LOGITS,
            CLASS_MAP,
            _DENSE_HEAD,
            (
                VariantSpec(28, patch_padding=0, labels="goliath"),
                VariantSpec(20, patch_padding=2, labels="cihp"),
                VariantSpec(20, patch_padding=2, labels="lip"),
                VariantSpec(19, patch_padding=0, labels="seg_face"),
            ),
        ),
        Task.POSE: Recipe(
            task=Task.POSE,
            preprocess=StepSpec(
                "pose_preprocess",
                inputs=(CHECKED_IMAGE, BBOXES),
                outputs=(PIXELS, CROPS, PERSON_BBOXES, IMAGE_HW),
            ),
            engine=StepSpec("pose_engine", inputs=(PIXELS,), outputs=_PEAK_TENSORS),
            postprocess=StepSpec(
                "pose_postprocess", inputs=(*_PEAK_TENSORS, CROPS), outputs=(KEYPOINTS, SCORES)
            ),
            outputs=(KEYPOINTS, SCORES, PERSON_BBOXES, IMAGE_HW),
            network_hw=(1024, 768),
            head=HeadSpec("head", "final_layer", channels=768, num_deconvs=2, num_convs=2),
            variants=(
                VariantSpec(308, patch_padding=2, labels="goliath"),
                VariantSpec(133, patch_padding=2, labels="coco_wholebody"),
                VariantSpec(17, patch_padding=2, labels="coco"),
            ),
        ),
        Task.FEATURES: Recipe(
            task=Task.FEATURES,
            preprocess=StepSpec("features_preprocess", inputs=(IMAGE,), outputs=(PIXELS, IMAGE_HW)),
            engine=StepSpec("features_engine", inputs=(PIXELS,), outputs=(FEATURE_MAP,)),
            postprocess=None,
            outputs=(FEATURE_MAP, IMAGE_HW),
            network_hw=(1024, 1024),
            head=None,
            variants=(VariantSpec(0, patch_padding=0),),
        ),
    }
)
