"""The registry: every fact that two parts of the project must agree on, as typed data.

Model configs, engines, adapters, the SDK and the tests read it from here; nobody writes these numbers again.

Source: `facebookresearch/sapiens`, training configs and model classes of the first release. Where its "lite"
demos differ from the training configs, the training configs win and the lite value is named as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

DType = Literal["UINT8", "INT32", "FP16", "FP32"]
Preprocess = Literal["full", "lite"]
Runtime = Literal["python", "torchscript"]

PATCH_SIZE = 16
ENGINE_FILE = "model.pt"


class Task(StrEnum):
    """What a model predicts; the value is also the name of the ensemble that clients call."""

    DEPTH = "depth"


@dataclass(frozen=True)
class Limits:
    """What one request may contain; checked before memory is taken.

    Attributes:
        max_image_bytes: Size of an encoded image.
        max_image_pixels: Width x height, read from the header before decoding.
        max_image_side: Longest side in pixels; OpenCV's warps address less than 2**15 of them.
    """

    max_image_bytes: int = 256 * 2**20
    max_image_pixels: int = 2**26
    max_image_side: int = 2**15 - 2


LIMITS = Limits()

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


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
    """

    name: str
    dtype: DType
    dims: tuple[int | str, ...]
    is_batched: bool = False


IMAGE = TensorSpec("image", "UINT8", (-1,))
IMAGE_HW = TensorSpec("image_hw", "INT32", (2,))
PIXELS = TensorSpec("pixels", "UINT8", ("H", "W", 3), is_batched=True)
DEPTH_MAP = TensorSpec("depth_map", "FP32", ("C", "h", "w"), is_batched=True)
DEPTH = TensorSpec("depth", "FP32", (-1, -1))


@dataclass(frozen=True)
class StepSpec:
    """One model of an ensemble.

    Attributes:
        name: The model's name in the repository.
        inputs: Tensors it takes, by the names they have in the ensemble.
        outputs: Tensors it returns.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


DENSE_PREPROCESS = StepSpec("dense_preprocess", inputs=(IMAGE,), outputs=(PIXELS, IMAGE_HW))


@dataclass(frozen=True)
class TaskSpec:
    """Everything about one task.

    Attributes:
        task: The task; its value names the ensemble.
        preprocess: Encoded image to uint8 network pixels.
        engine: Pixels to the network's reduced output.
        postprocess: That output to the result at image size.
        outputs: What the ensemble returns: the result and the size of the image.
        raw_outputs: What the ensemble `<task>_raw` returns: the engine's own, smaller tensor, not the result.
            Another ensemble, because Triton's scheduler drops a step whose only output is an ensemble output
            that the caller did not ask for, even where a later step needs it.
        network_hw: Input height and width of the released networks.
        output_stride: Network input pixels per output pixel.
        num_outputs: Output channels of the released networks.
        head: Layout of the decode head.
        patch_padding: Zero padding of the patch embedding, in pixels. Not visible in the weights.
        tolerance: Largest error of a float32 engine against the network, as a share of the output's range.
    """

    task: Task
    preprocess: StepSpec
    engine: StepSpec
    postprocess: StepSpec
    outputs: tuple[TensorSpec, ...]
    raw_outputs: tuple[TensorSpec, ...]
    network_hw: tuple[int, int]
    output_stride: int
    num_outputs: int
    head: HeadSpec
    patch_padding: int
    tolerance: float

    @property
    def raw_name(self) -> str:
        """Name of the ensemble without postprocessing."""
        return f"{self.task.value}_raw"


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


TASKS: Mapping[Task, TaskSpec] = MappingProxyType(
    {
        Task.DEPTH: TaskSpec(
            task=Task.DEPTH,
            preprocess=DENSE_PREPROCESS,
            engine=StepSpec("depth_engine", inputs=(PIXELS,), outputs=(DEPTH_MAP,)),
            postprocess=StepSpec("depth_postprocess", inputs=(DEPTH_MAP, IMAGE_HW), outputs=(DEPTH,)),
            outputs=(DEPTH, IMAGE_HW),
            raw_outputs=(DEPTH_MAP, IMAGE_HW),
            network_hw=(1024, 768),
            output_stride=1,
            num_outputs=1,
            head=HeadSpec("decode_head", "conv_seg", channels=384, num_deconvs=4, num_convs=2),
            patch_padding=0,
            tolerance=1e-4,
        ),
    }
)


@dataclass(frozen=True)
class SizeSpec:
    """Width and depth of a released backbone.

    Attributes:
        embed_dim: Token width.
        num_layers: Transformer blocks.
        num_heads: Attention heads per block.
    """

    embed_dim: int
    num_layers: int
    num_heads: int


@dataclass(frozen=True)
class FamilySpec:
    """One generation of released models.

    Attributes:
        licence: Licence of the published weights.
        sizes: Released backbones by name.
    """

    licence: str
    sizes: Mapping[str, SizeSpec]


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
