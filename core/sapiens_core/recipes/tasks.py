"""The registry: every fact that two parts of the project must agree on, as typed data.

Model configs, engines, adapters, the SDK and the tests read it from here; nobody writes these numbers again.

Source: `facebookresearch/sapiens`, training configs and model classes of the first release. Where its "lite"
demos differ from the training configs, the training configs win and the lite value is named as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, Self

DType = Literal["BOOL", "UINT8", "INT32", "FP16", "FP32"]
DTYPE_BYTES: Mapping[DType, int] = MappingProxyType({"BOOL": 1, "UINT8": 1, "INT32": 4, "FP16": 2, "FP32": 4})
Preprocess = Literal["full", "lite"]
Fit = Literal["stretch", "letterbox"]
Runtime = Literal["python", "torchscript", "onnx", "tensorrt"]
Precision = Literal["float32", "float16", "bfloat16"]

PATCH_SIZE = 16
PEAK_PATCH = 13  # cells around a heatmap's peak that the UDP decode can see: an 11-tap blur and one neighbour
ENGINE_FILES: Mapping[Runtime, str] = MappingProxyType(
    {"python": "model.pt", "torchscript": "model.pt", "onnx": "model.onnx", "tensorrt": "model.plan"}
)
ONNX_OPSET = 22  # of engine files; the first one with bfloat16 convolutions
MIN_ONNXRUNTIME = (1, 21)  # the first release that reads it

# What counts as a person, unless a detector is known to need another score. Source: both pose demos of the
# reference.
MIN_PERSON_SCORE = 0.3
MAX_PERSON_OVERLAP = 0.3  # intersection over union that two persons may have

# The built-in detector. Its least score is where, on renders and photographs, few false boxes are left.
NANODET_FAMILY = "nanodet"
NANODET_SIZE = "g"
NANODET_LICENCE = "Apache-2.0"
NANODET_MIN_SCORE = 0.4
NUM_NANODET_CANDIDATES = 500  # above the least score, pictures of a hundred people have half as many


class Task(StrEnum):
    """What a model predicts; the value also names the ensemble that clients call, if no other is named."""

    DEPTH = "depth"
    NORMAL = "normal"
    SEG = "seg"
    POSE = "pose"
    FEATURES = "features"
    DETECT = "detect"


@dataclass(frozen=True)
class Normalization:
    """Per-channel statistics, RGB order, in grey levels of 0..255; pixels become `(x - mean) / std`.

    Attributes:
        mean: Subtracted first.
        std: Divides afterwards.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


NORMALIZATIONS: Mapping[Preprocess, Normalization] = MappingProxyType(
    {
        "full": Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        # The lite demos round to the half; kept for comparison with their output only.
        "lite": Normalization(mean=(123.5, 116.5, 103.5), std=(58.5, 57.0, 57.5)),
    }
)


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor of the contract.

    Attributes:
        name: The name in every model that takes or returns it.
        dtype: Triton data type without the `TYPE_` prefix.
        dims: Shape of one item. A number is fixed and -1 is free; "H", "W" are the network input's size, "h",
            "w" the network output's, "C" its number of channels.
        is_batched: A batch axis stands before `dims`.
        is_optional: A caller may leave it out.
    """

    name: str
    dtype: DType
    dims: tuple[int | str, ...]
    is_batched: bool = False
    is_optional: bool = False


IMAGE = TensorSpec("image", "UINT8", (-1,))
# Beside an optional input: Triton counts the inputs that come, and an ensemble without its image would never
# end. So it is left to the step to refuse that in words.
CHECKED_IMAGE = replace(IMAGE, is_optional=True)
IMAGE_HW = TensorSpec("image_hw", "INT32", (2,))
FINISH_HW = TensorSpec("finish_hw", "INT32", (2,))  # the same once more, see `StepSpec`
PIXELS = TensorSpec("pixels", "UINT8", ("H", "W", 3), is_batched=True)
DEPTH_MAP = TensorSpec("depth_map", "FP32", ("C", "h", "w"), is_batched=True)
DEPTH = TensorSpec("depth", "FP32", (-1, -1))
NORMAL_MAP = TensorSpec("normal_map", "FP32", ("C", "h", "w"), is_batched=True)
NORMALS = TensorSpec("normals", "FP32", (-1, -1, 3))
LOGITS = TensorSpec("logits", "FP16", ("C", "h", "w"), is_batched=True)
CLASS_MAP = TensorSpec("class_map", "UINT8", (-1, -1))
FEATURE_MAP = TensorSpec("features", "FP32", ("C", "h", "w"), is_batched=True)
BBOXES = TensorSpec("bboxes", "FP32", (-1, 4), is_optional=True)
PERSON_BBOXES = TensorSpec("person_bboxes", "FP32", (4,), is_batched=True)
CROPS = TensorSpec("crops", "FP32", (4,), is_batched=True)
PEAKS = TensorSpec("peaks", "INT32", ("C", 2), is_batched=True)
SCORES = TensorSpec("scores", "FP32", ("C",), is_batched=True)
PATCHES = TensorSpec("patches", "FP32", ("C", PEAK_PATCH, PEAK_PATCH), is_batched=True)
BLURRED_MAX = TensorSpec("blurred_max", "FP32", ("C",), is_batched=True)
KEYPOINTS = TensorSpec("keypoints", "FP32", ("C", 2), is_batched=True)
CANDIDATE_BBOXES = TensorSpec("candidate_bboxes", "FP32", ("C", 4), is_batched=True)
CANDIDATE_SCORES = TensorSpec("candidate_scores", "FP32", ("C",), is_batched=True)
DETECTED_BBOXES = TensorSpec("bboxes", "FP32", (-1, 4))
DETECTED_SCORES = TensorSpec("scores", "FP32", (-1,))
BBOX_SCORES = TensorSpec("bbox_scores", "FP32", (-1,))
WHOLE_IMAGE_IF_NOBODY = TensorSpec("whole_image_if_nobody", "BOOL", (1,), is_optional=True)


@dataclass(frozen=True)
class StepSpec:
    """One model of an ensemble.

    No tensor both feeds a later step and is what the ensemble returns: Triton forgets it where the later step
    is not needed for what a caller asks. Such facts are returned twice, or once more by the later step.

    Attributes:
        name: The model's name in the repository.
        inputs: Tensors it takes, by the names they have in the ensemble.
        outputs: Tensors it returns.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


DENSE_PREPROCESS = StepSpec("dense_preprocess", inputs=(IMAGE,), outputs=(PIXELS, IMAGE_HW, FINISH_HW))


@dataclass(frozen=True)
class HeadSpec:
    """Layout of a decode head: deconvolutions, 1x1 convolutions, one last 1x1 convolution.

    Attributes:
        name: Module name in the official state dict.
        last_layer: Name of the last convolution below it.
        channels: Width of every layer but the last, whatever the size of the backbone.
        num_deconvs: Transposed convolutions (4x4, stride 2); each doubles the resolution.
        num_convs: 1x1 convolutions after them.
    """

    name: str
    last_layer: str
    channels: int
    num_deconvs: int
    num_convs: int


@dataclass(frozen=True)
class VariantSpec:
    """What the outputs of a released network stand for.

    Attributes:
        num_outputs: Output channels.
        patch_padding: Zero padding of the patch embedding, in pixels. Not visible in the weights.
        labels: Name of the set of keypoints or classes in `sapiens_core.labels`; empty where channels are no
            labels.
    """

    num_outputs: int
    patch_padding: int
    labels: str = ""


@dataclass(frozen=True)
class TaskSpec:
    """Everything about one task.

    Attributes:
        task: What is predicted.
        preprocess: Encoded image to uint8 network pixels.
        engine: Pixels to the network's reduced output.
        postprocess: That output to the result at image size; None: the output is the result.
        outputs: What the ensemble returns: the result and the size of the image.
        network_hw: Input height and width of the released networks; of detectors, of the built-in one.
        head: Layout of the decode head; None: the backbone's features are the output.
        variants: The released sets of outputs, the default one first; detectors are nobody's release.
        raw_outputs: What the ensemble `<task>_raw` returns: the engine's own, smaller tensor, not the result.
            Another ensemble, because Triton's scheduler drops a step whose only output is an ensemble output
            that the caller did not ask for, even where a later step needs it. Empty: there is no such
            ensemble.
        suffix: Tells the models of a further network for the task from those of the first, which has none.
    """

    task: Task
    preprocess: StepSpec
    engine: StepSpec
    postprocess: StepSpec | None
    outputs: tuple[TensorSpec, ...]
    network_hw: tuple[int, int]
    head: HeadSpec | None
    variants: tuple[VariantSpec, ...]
    raw_outputs: tuple[TensorSpec, ...] = ()
    suffix: str = ""

    @property
    def name(self) -> str:
        """Name of the ensemble that clients call."""
        return f"{self.task.value}_{self.suffix}" if self.suffix else self.task.value

    @property
    def output_stride(self) -> int:
        """Network input pixels per output pixel."""
        return PATCH_SIZE >> (self.head.num_deconvs if self.head else 0)

    @property
    def raw_name(self) -> str:
        """Name of the ensemble without postprocessing."""
        return f"{self.name}_raw"

    def named(self, suffix: str) -> Self:
        """Return the models of a further network: all get names of their own, but for the preprocessor.

        Args:
            suffix: What to name it; "2b" makes `depth_2b`, `depth_2b_raw`, `depth_2b_engine` and
                `depth_2b_postprocess` of depth.
        """
        name = f"{self.task.value}_{suffix}"
        return replace(
            self,
            engine=replace(self.engine, name=f"{name}_engine"),
            postprocess=self.postprocess and replace(self.postprocess, name=f"{name}_postprocess"),
            suffix=suffix,
        )


def _dense_task(
    task: Task,
    engine_output: TensorSpec,
    result: TensorSpec,
    head: HeadSpec,
    variants: tuple[VariantSpec, ...],
) -> TaskSpec:
    return TaskSpec(
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

TASKS: Mapping[Task, TaskSpec] = MappingProxyType(
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
        Task.POSE: TaskSpec(
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
        Task.FEATURES: TaskSpec(
            task=Task.FEATURES,
            preprocess=StepSpec("features_preprocess", inputs=(IMAGE,), outputs=(PIXELS, IMAGE_HW)),
            engine=StepSpec("features_engine", inputs=(PIXELS,), outputs=(FEATURE_MAP,)),
            postprocess=None,
            outputs=(FEATURE_MAP, IMAGE_HW),
            network_hw=(1024, 1024),
            head=None,
            variants=(VariantSpec(0, patch_padding=0),),
        ),
        Task.DETECT: TaskSpec(
            task=Task.DETECT,
            preprocess=StepSpec("detect_preprocess", inputs=(IMAGE,), outputs=(PIXELS, IMAGE_HW, FINISH_HW)),
            engine=StepSpec("detect_engine", inputs=(PIXELS,), outputs=(CANDIDATE_BBOXES, CANDIDATE_SCORES)),
            postprocess=StepSpec(
                "detect_postprocess",
                inputs=(CANDIDATE_BBOXES, CANDIDATE_SCORES, FINISH_HW),
                outputs=(DETECTED_BBOXES, DETECTED_SCORES),
            ),
            outputs=(DETECTED_BBOXES, DETECTED_SCORES, IMAGE_HW),
            network_hw=(416, 416),
            head=None,
            variants=(),
        ),
    }
)


HUMAN = "human"  # name of the ensemble that answers several tasks after one decode and one resize
HUMAN_TASKS = (Task.DEPTH, Task.NORMAL, Task.SEG)

# The one model that calls others: how many persons there are, an ensemble cannot know.
PEOPLE_POSE = StepSpec(
    "people_pose",
    inputs=(CHECKED_IMAGE, WHOLE_IMAGE_IF_NOBODY),
    outputs=(KEYPOINTS, SCORES, PERSON_BBOXES, BBOX_SCORES, IMAGE_HW),
)
