"""What a network of the second family looks like: the fields of transformers' `Sapiens2Config` that differ.

Source: configs of `facebookresearch/sapiens2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from sapiens_core.finish.seg import MAX_CLASSES
from sapiens_core.recipes.lookup import recipe
from sapiens_core.recipes.recipe import PATCH_SIZE, Recipe, Task
from sapiens_core.recipes.sapiens2 import FAMILY, SAPIENS2
from sapiens_export.documents import NO_OTHER_KEYS

NUM_REGISTER_TOKENS = 8
REGISTER_TOKENS = "storage_tokens"  # their name in weight files, which no other family has
NUM_FULL_LAYERS = 8  # first and last ones, whose keys and values have as many heads as their queries
MLP_RATIO = 4  # width of the gated layers, in widths of a token
_MAX_SIDE = 8192
_MIN_CLASSES = 2
_CUSTOM_SIZE = "custom"
_DOUBLINGS = {Task.POSE: 2}  # others 4: back to the size of the input


@dataclass(frozen=True)
class HeadConfig:
    """The decode head of one task and size.

    Attributes:
        upsample_out_channels: Width after each layer that doubles the resolution.
        conv_out_channels: Width after each further convolution.
        use_pixel_shuffle: Doubles by shuffling channels into pixels, with 3x3 kernels; else by transposed
            4x4 convolutions, followed by 1x1 ones.
        scale_conv_out_channels: Widths of the pointmap's branch for the scale; empty: there is none.
        scale_final_hidden_sizes: Widths of that branch's linear layers.
    """

    __pydantic_config__: ClassVar = NO_OTHER_KEYS

    upsample_out_channels: tuple[int, ...]
    conv_out_channels: tuple[int, ...]
    use_pixel_shuffle: bool = False
    scale_conv_out_channels: tuple[int, ...] = ()
    scale_final_hidden_sizes: tuple[int, ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        """All of them."""
        scale = (*self.scale_conv_out_channels, *self.scale_final_hidden_sizes)
        return (*self.upsample_out_channels, *self.conv_out_channels, *scale)


@dataclass(frozen=True)
class Sapiens2NetworkConfig:
    """Architecture of one network of the second family.

    Attributes:
        family: Generation, "sapiens2".
        task: What it predicts.
        input_hw: Height and width of the input, pixels.
        hidden_size: Token width.
        num_hidden_layers: Transformer blocks.
        num_attention_heads: Heads of queries per block.
        num_key_value_attention_heads: Heads of keys and values in the blocks between the first and the last
            eight, each of which serves several heads of queries. In the released ones half as many.
        intermediate_size: Width of the gated layers.
        num_labels: Output channels; 0 for features, which have as many as tokens are wide.
        head_config: The decode head; None for features.
        labels: Name of the set of keypoints or classes that the channels stand for; empty: none.
        window: Patches along each side of the square that becomes one token.
        num_window_layers: Transformer blocks that make a token of each window, of features alone; 0: tokens
            are patches.
    """

    __pydantic_config__: ClassVar = NO_OTHER_KEYS

    family: str
    task: str
    input_hw: tuple[int, int]
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_attention_heads: int
    intermediate_size: int
    num_labels: int
    head_config: HeadConfig | None = None
    labels: str = ""
    window: int = 1
    num_window_layers: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        own = self.recipe
        self._check_sizes()
        fixed = {variant.num_outputs: variant.labels for variant in own.variants}
        if not own.labels and self.num_labels not in fixed:
            raise ValueError(f"num_labels of {self.task} must be {min(fixed)}, got {self.num_labels}")
        if self.labels and fixed.get(self.num_labels) != self.labels:
            known = [repr(fixed[self.num_labels])] if self.num_labels in fixed else []
            raise ValueError(
                f"labels of {self.num_labels} outputs of {self.task} must be "
                f"{' or '.join([*known, 'empty'])}, got {self.labels!r}"
            )
        if self.task == Task.SEG and not _MIN_CLASSES <= self.num_labels <= MAX_CLASSES:
            raise ValueError(
                f"num_labels of seg must be from {_MIN_CLASSES} to {MAX_CLASSES}, got {self.num_labels}"
            )
        self._check_head()

    def _check_sizes(self) -> None:
        counts = {
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_attention_heads": self.num_key_value_attention_heads,
            "intermediate_size": self.intermediate_size,
            "window": self.window,
        }
        if too_small := {name: value for name, value in counts.items() if value < 1}:
            raise ValueError(f"sizes of a network must be positive, got {too_small}")
        # A head's numbers are angles of rows and of columns, each turned in pairs.
        if self.hidden_size % (4 * self.num_attention_heads):
            raise ValueError(
                "hidden_size must be a multiple of four times num_attention_heads, got "
                f"{self.hidden_size} and {self.num_attention_heads}"
            )
        if self.num_attention_heads % self.num_key_value_attention_heads:
            raise ValueError(
                "num_attention_heads must be a multiple of num_key_value_attention_heads, got "
                f"{self.num_attention_heads} and {self.num_key_value_attention_heads}"
            )
        step = PATCH_SIZE * self.window
        if any(side not in range(step, _MAX_SIDE + 1, step) for side in self.input_hw):
            raise ValueError(
                f"input_hw must be positive multiples of {step} up to {_MAX_SIDE}, got {self.input_hw}"
            )
        may_differ = self.task == Task.FEATURES and self.window > 1 and self.num_window_layers > 0
        if (self.window, self.num_window_layers) != (1, 0) and not may_differ:
            raise ValueError(
                "window and num_window_layers must be 1 and 0, or both more for features, got "
                f"{self.window} and {self.num_window_layers} for {self.task}"
            )

    def _check_head(self) -> None:
        head, task = self.head_config, self.task
        if (head is None) != (task == Task.FEATURES):
            raise ValueError(f"head_config must be given for all tasks but features, got {head} for {task}")
        if head is None:
            return
        doublings = _DOUBLINGS.get(Task(task), 4)
        if len(head.upsample_out_channels) != doublings or not head.conv_out_channels or min(head.widths) < 1:
            raise ValueError(
                f"head_config of {task} must have {doublings} upsample_out_channels and some "
                f"conv_out_channels, all positive, got {head}"
            )
        is_scaled = bool(head.scale_conv_out_channels) and len(head.scale_final_hidden_sizes) == 2
        if is_scaled != (task == Task.POINTMAP):
            raise ValueError(
                f"a pointmap's head_config, and no other, must have a scale's widths, got {head}"
            )

    @property
    def recipe(self) -> Recipe:
        """All about what it is for."""
        return recipe(self.family, self.task)

    @property
    def num_outputs(self) -> int:
        """Output channels."""
        return self.num_labels or self.hidden_size

    @property
    def output_hw(self) -> tuple[int, int]:
        """Height and width of the network's output."""
        stride = self.recipe.output_stride * self.window
        return self.input_hw[0] // stride, self.input_hw[1] // stride

    @property
    def size(self) -> str:
        """Name of the released size with this architecture, or else "custom"."""
        plain = replace(self, labels=self.recipe.variants[0].labels)
        sizes = sapiens2_sizes(self.task)
        return next((size for size in sizes if plain == released_sapiens2(self.task, size)), _CUSTOM_SIZE)


_SCALE = ((1536, 512, 128), (512, 128))
_POSE_HEAD = HeadConfig((1024, 768), (512, 512, 256))
_SEG_HEAD = HeadConfig((512, 256, 128, 64), (64, 64))
_NORMAL_HEAD = HeadConfig((768, 512, 256, 128), (64, 32, 16), use_pixel_shuffle=True)
_POINTMAP_HEAD = HeadConfig((1536, 768, 512, 256), (64, 32, 16), True, *_SCALE)
# By task and size; matting is published in one size.
_HEADS: Mapping[str, Mapping[str, HeadConfig]] = MappingProxyType(
    {
        Task.POSE: {
            **dict.fromkeys(("0.4b", "0.8b", "5b"), _POSE_HEAD),
            "1b": HeadConfig((1536, 1024), (768, 512, 256)),
        },
        Task.SEG: dict.fromkeys(("0.4b", "0.8b", "1b", "5b"), _SEG_HEAD),
        Task.NORMAL: {
            **dict.fromkeys(("0.4b", "0.8b", "1b"), _NORMAL_HEAD),
            "5b": HeadConfig((1536, 768, 512, 256), (128, 64, 32), use_pixel_shuffle=True),
        },
        Task.POINTMAP: {
            **dict.fromkeys(("0.4b", "0.8b", "1b"), _POINTMAP_HEAD),
            "5b": HeadConfig((1536, 768, 768, 768), (128, 64, 32), True, *_SCALE),
        },
        Task.MATTING: {"1b": _NORMAL_HEAD},
        Task.ALBEDO: {
            **dict.fromkeys(("0.4b", "0.8b", "1b"), _NORMAL_HEAD),
            "5b": HeadConfig((1536, 768, 512, 256), (64, 32, 16), use_pixel_shuffle=True),
        },
    }
)


def sapiens2_sizes(task: str) -> list[str]:
    """Return the names of the sizes that a task has an architecture in."""
    return [size for size in SAPIENS2.sizes if _has_head(task, size)]


def released_sapiens2(task: str, size: str) -> Sapiens2NetworkConfig:
    """Return the architecture of a released network.

    Args:
        task: What it predicts.
        size: Name of the released size, e.g. "0.4b".

    Raises:
        ValueError: The family has no such task, or the task no such size.
    """
    own = recipe(FAMILY, task)
    if size not in SAPIENS2.sizes or not _has_head(task, size):
        raise ValueError(
            f"size of {task} of {FAMILY} must be one of {sapiens2_sizes(task)}, got {size!r}; describe other "
            "networks with --network"
        )
    backbone, variant = SAPIENS2.sizes[size], own.variants[0]
    return Sapiens2NetworkConfig(
        family=FAMILY,
        task=task,
        input_hw=own.released_hw(backbone.window),
        hidden_size=backbone.embed_dim,
        num_hidden_layers=backbone.num_layers,
        num_attention_heads=backbone.num_heads,
        num_key_value_attention_heads=backbone.num_heads // 2,
        intermediate_size=MLP_RATIO * backbone.embed_dim,
        num_labels=variant.num_outputs,
        head_config=_HEADS[task][size] if task in _HEADS else None,
        labels=variant.labels,
        window=backbone.window,
        num_window_layers=backbone.num_window_layers,
    )


def _has_head(task: str, size: str) -> bool:
    return task not in _HEADS or size in _HEADS[task]
