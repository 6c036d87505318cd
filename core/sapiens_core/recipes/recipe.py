"""What a recipe is: every fact about one task of one family that two parts of the project must agree on.

Model configs, engines, adapters, the SDK and the tests read it from here; nobody writes these numbers again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pkgutil import resolve_name
from typing import Any, Literal, Self

from sapiens_core.contract.settings import Finish, Fit, Interpolation, Preprocess, StepSettings
from sapiens_core.contract.steps import StepSpec
from sapiens_core.contract.tensors import TensorSpec

PATCH_SIZE = 16  # pixels of a network's input that become one token, along each side
# What an engine makes of its network's output: that itself, the peaks of heatmaps and what is around them,
# a detector's candidates, or how far each class of a cell is below the best one.
Reduction = Literal["map", "peaks", "candidates", "margins"]
Labels = Literal["", "keypoints", "classes"]


class Task(StrEnum):
    """What the released models predict; the value also names the ensemble that is called by default."""

    DEPTH = "depth"
    NORMAL = "normal"
    SEG = "seg"
    POSE = "pose"
    FEATURES = "features"
    POINTMAP = "pointmap"
    MATTING = "matting"
    ALBEDO = "albedo"
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


@dataclass(frozen=True)
class Preparation:
    """How an image becomes what a network takes.

    Attributes:
        normalization: Of pixels, by the engine's first layer.
        interpolation: By which a whole image is resized, and crops of persons are warped.
        fit: How a whole image is fitted into the network's input, unless a network needs it otherwise.
    """

    normalization: Normalization
    interpolation: Interpolation = "bilinear"
    fit: Fit = "stretch"


@dataclass(frozen=True)
class Tolerances:
    """How far an engine may be from the float32 network, by the measures of `recipes.tolerances`.

    Attributes:
        float32: An engine that computes in float32.
        reduced: One of another number format. What users can rely on, not what the format usually attains,
            which is better.
    """

    float32: Mapping[str, float]
    reduced: Mapping[str, float]


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
class Recipe:
    """Everything about one task of one family, in the order in which an image meets it.

    Attributes:
        family: Generation of the networks; empty: the task has this one recipe, whatever its networks.
        task: What is predicted.
        preprocess: Encoded image to uint8 network pixels.
        preparations: How: "full" as in training, or "lite" as in the official lite demos.
        engine: Pixels to the network's reduced output.
        reduction: What is reduced to.
        postprocess: That output to the result at image size; None: the output is the result.
        finish: Function that does this, as "module:name". It takes the postprocessor's inputs, in their order
            and with the batch axis, and the `StepSettings`, and returns its outputs. Empty: there is none.
        outputs: What the ensemble returns: the result and the size of the image.
        network_hw: Input height and width of the released networks whose tokens are patches; of detectors, of
            the built-in one.
        output_stride: Pixels of such a network's input per pixel of its output, along each side.
        head: Layout of the decode head where all sizes have the same; None: they differ, or the backbone's
            features are the output.
        variants: The released sets of outputs, the default one first; detectors are nobody's release.
        labels: What the outputs have names for; empty: nothing.
        tolerances: How exact an engine must be.
        raw_outputs: What the ensemble `<task>_raw` returns: the engine's own, smaller tensor, not the result.
            Another ensemble, because Triton's scheduler drops a step whose only output is an ensemble output
            that the caller did not ask for, even where a later step needs it. Empty: there is no such
            ensemble.
        torch_finish: Function that does what `finish` does with tensors on any device, by torch. Empty: there
            is none.
        suffix: Tells the models of a further network for the task from those of the first, which has none.
    """

    family: str
    task: str
    preprocess: StepSpec
    preparations: Mapping[Preprocess, Preparation]
    engine: StepSpec
    reduction: Reduction
    postprocess: StepSpec | None
    finish: str
    outputs: tuple[TensorSpec, ...]
    network_hw: tuple[int, int]
    output_stride: int
    head: HeadSpec | None
    variants: tuple[VariantSpec, ...]
    tolerances: Tolerances
    labels: Labels = ""
    raw_outputs: tuple[TensorSpec, ...] = ()
    torch_finish: str = ""
    suffix: str = ""

    @property
    def name(self) -> str:
        """Name of the ensemble that clients call."""
        return f"{self.task}_{self.suffix}" if self.suffix else self.task

    @property
    def raw_name(self) -> str:
        """Name of the ensemble without postprocessing."""
        return f"{self.name}_raw"

    @property
    def steps(self) -> tuple[StepSpec, ...]:
        """The models of the ensemble, in their order."""
        return tuple(step for step in (self.preprocess, self.engine, self.postprocess) if step)

    @property
    def finished(self) -> Callable[..., tuple[Any, ...]]:
        """The function that `finish` names; its module is loaded now."""
        function: Callable[..., tuple[Any, ...]] = resolve_name(self.finish)
        return function

    def released_hw(self, window: int) -> tuple[int, int]:
        """Return the height and width of the input that makes as many tokens as released networks have.

        Args:
            window: Patches along each side of what becomes one of its tokens, see `SizeSpec`.
        """
        return self.network_hw[0] * window, self.network_hw[1] * window

    def preparation(self, preprocess: Preprocess) -> Preparation:
        """Return how images are prepared.

        Raises:
            ValueError: There is no such way.
        """
        if preprocess not in self.preparations:
            raise ValueError(
                f"preprocess of {self.task} of {self.family} must be one of {list(self.preparations)}, got "
                f"{preprocess!r}; leave it out"
            )
        return self.preparations[preprocess]

    def settings(
        self, network_hw: tuple[int, int], max_batch_size: int, preprocess: Preprocess = "full"
    ) -> StepSettings:
        """Return what the steps around an engine are told about it.

        Args:
            network_hw: Height and width of the network's input.
            max_batch_size: Largest batch of the engine.
            preprocess: How pixels are prepared.
        """
        how = self.preparation(preprocess)
        return StepSettings(network_hw, max_batch_size, preprocess, how.fit, how.interpolation)

    def finished_on(self, finish: Finish) -> Self:
        """Return the models of which the last one finishes results there.

        Raises:
            ValueError: It has no function for that.
        """
        if finish != "gpu":
            return self
        if self.postprocess is None or not self.torch_finish:
            raise ValueError(
                f"finish of {self.task} must be cpu, there is nothing else, got {finish!r}; leave it out"
            )
        step = replace(self.postprocess, kind="torch_finish")
        return replace(self, postprocess=step, finish=self.torch_finish)

    def named(self, suffix: str) -> Self:
        """Return the models of a further network: all get names of their own, but for the preprocessor.

        Args:
            suffix: What to name it; "2b" makes `depth_2b`, `depth_2b_raw`, `depth_2b_engine` and
                `depth_2b_postprocess` of depth.
        """
        name = f"{self.task}_{suffix}"
        return replace(
            self,
            engine=replace(self.engine, name=f"{name}_engine"),
            postprocess=self.postprocess and replace(self.postprocess, name=f"{name}_postprocess"),
            suffix=suffix,
        )


@dataclass(frozen=True)
class SizeSpec:
    """Width and depth of a released backbone.

    Attributes:
        embed_dim: Token width.
        num_layers: Transformer blocks.
        num_heads: Attention heads per block.
        window: Patches along each side of the square that becomes one token. The input is as many times as
            large, so that all sizes have equally many tokens.
        num_window_layers: Transformer blocks that make a token of each window; 0: tokens are patches.
    """

    embed_dim: int
    num_layers: int
    num_heads: int
    window: int = 1
    num_window_layers: int = 0


@dataclass(frozen=True)
class FamilySpec:
    """One generation of released models.

    Attributes:
        licence: Licence of the published weights.
        sizes: Released backbones by name.
        recipes: What they do, by task.
    """

    licence: str
    sizes: Mapping[str, SizeSpec]
    recipes: Mapping[str, Recipe]
