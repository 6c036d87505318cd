"""What a network looks like: enough to build it, nothing about its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, cast

from sapiens_core.contract.settings import MIN_PERSON_SCORE, Fit
from sapiens_core.recipes.detectors import (
    NANODET_FAMILY,
    NANODET_MIN_SCORE,
    NANODET_SIZE,
    NUM_NANODET_CANDIDATES,
)
from sapiens_core.recipes.lookup import FAMILIES, first_recipe, recipe
from sapiens_core.recipes.recipe import PATCH_SIZE, Recipe, Task, VariantSpec
from sapiens_core.recipes.sapiens2 import FAMILY
from sapiens_export.documents import NO_OTHER_KEYS, from_json
from sapiens_export.networks.sapiens2_config import Sapiens2NetworkConfig, released_sapiens2, sapiens2_sizes

CUSTOM_SIZE = "custom"
DEMO_SIZE = "demo"
DEMO_NETWORKS = Path(str(files("sapiens_export") / "demo_networks"))
NANODET_WEIGHTS = Path(str(files("sapiens_export") / "data" / "nanodet.safetensors"))

_MAX_INPUT_SIDE = 8192
_MAX_SIZES = {
    "embed_dim": 16384,
    "num_layers": 256,
    "head_channels": 16384,
    "num_outputs": 4096,
    "patch_padding": PATCH_SIZE // 2 - 1,  # more would add a row and a column of patches
}


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of one network.

    Attributes:
        family: Generation, "sapiens".
        task: What it predicts.
        embed_dim: Token width.
        num_layers: Transformer blocks.
        num_heads: Attention heads per block.
        patch_padding: Zero padding of the patch embedding, in pixels.
        input_hw: Height and width of the input, pixels.
        head_channels: Width of the decode head; unused where there is none.
        num_outputs: Output channels; the features have as many as tokens are wide.
        labels: Name of the set of keypoints or classes that the channels stand for; empty: none.
        position_hw: Height and width of the input that a checkpoint's position table is for. None: it is this
            network's where it fits, else a released one's.
    """

    __pydantic_config__: ClassVar = NO_OTHER_KEYS

    family: str
    task: str
    embed_dim: int
    num_layers: int
    num_heads: int
    patch_padding: int
    input_hw: tuple[int, int]
    head_channels: int
    num_outputs: int
    labels: str = ""
    position_hw: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        own = self.recipe
        counts = {name: value for name, value in asdict(self).items() if isinstance(value, int)}
        may_be_zero = {"patch_padding", *(() if own.head else ("head_channels",))}
        too_small = {name: value for name, value in counts.items() if value < (name not in may_be_zero)}
        if too_small:
            raise ValueError(f"sizes of a network must be positive, got {too_small}")
        too_large = {name: counts[name] for name, limit in _MAX_SIZES.items() if counts[name] > limit}
        if too_large:
            raise ValueError(f"sizes of a network must be at most {_MAX_SIZES}, got {too_large}")
        fixed = own.variants[0].num_outputs or self.embed_dim
        if not own.labels and self.num_outputs != fixed:
            raise ValueError(f"num_outputs of {self.task} must be {fixed}, got {self.num_outputs}")
        sets = {variant.labels for variant in own.variants if variant.num_outputs == self.num_outputs}
        if self.labels and self.labels not in sets:
            raise ValueError(
                f"labels of {self.num_outputs} outputs of {self.task} must be one of {sorted(sets)} "
                f"or empty, got {self.labels!r}"
            )
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}"
            )
        for name, sides in (("input_hw", self.input_hw), ("position_hw", self.position_hw or ())):
            if any(side not in range(PATCH_SIZE, _MAX_INPUT_SIDE + 1, PATCH_SIZE) for side in sides):
                raise ValueError(
                    f"{name} must be positive multiples of {PATCH_SIZE} up to {_MAX_INPUT_SIDE}, got {sides}"
                )

    @property
    def recipe(self) -> Recipe:
        """All about what it is for."""
        return recipe(self.family, self.task)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.input_hw[0] // PATCH_SIZE, self.input_hw[1] // PATCH_SIZE

    @property
    def output_hw(self) -> tuple[int, int]:
        """Height and width of the network's output."""
        stride = self.recipe.output_stride
        return self.input_hw[0] // stride, self.input_hw[1] // stride

    @property
    def size(self) -> str:
        """Name of the size with this architecture: a released one, "demo", or else "custom"."""
        if _demo_file(self.task).is_file() and self == demo_network(self.task):
            return DEMO_SIZE
        sizes = FAMILIES[self.family].sizes
        matching = (
            name
            for name in sizes
            for variant in self.recipe.variants
            if replace(self, position_hw=None)
            == released_network(self.task, name, self.family, variant=variant)
        )
        return next(matching, CUSTOM_SIZE)


@dataclass(frozen=True)
class DetectorConfig:
    """What a person detector takes and returns.

    Attributes:
        family: Kind of detector, e.g. "rt-detr-v2".
        size: Its name among its kind.
        input_hw: Height and width of the input, pixels.
        num_outputs: Boxes that it returns for every image.
        fit: How an image becomes an input.
        min_score: What its boxes must score more than to be persons.
    """

    __pydantic_config__: ClassVar = NO_OTHER_KEYS

    family: str
    size: str
    input_hw: tuple[int, int]
    num_outputs: int
    fit: Fit = "stretch"
    min_score: float = MIN_PERSON_SCORE

    @property
    def task(self) -> str:
        """What it predicts."""
        return Task.DETECT

    @property
    def recipe(self) -> Recipe:
        """All about what it is for."""
        return recipe(self.family, self.task)

    @property
    def labels(self) -> str:
        """Empty: its boxes are of persons, whatever else it knows."""
        return ""

    @property
    def output_hw(self) -> tuple[int, int]:
        """Height and width that its boxes refer to."""
        return self.input_hw


WeightsConfig = NetworkConfig | Sapiens2NetworkConfig  # of networks with published weights
EngineConfig = WeightsConfig | DetectorConfig
# Families whose networks are described in words of their own; all others by a `NetworkConfig`.
_CONFIGS: Mapping[str, type[WeightsConfig]] = MappingProxyType({FAMILY: Sapiens2NetworkConfig})

NANODET = DetectorConfig(
    NANODET_FAMILY,
    NANODET_SIZE,
    first_recipe(Task.DETECT).network_hw,
    NUM_NANODET_CANDIDATES,
    fit="letterbox",  # as in its training
    min_score=NANODET_MIN_SCORE,
)


def config_type(family: str) -> type[WeightsConfig]:
    """Return what describes the networks of a family."""
    return _CONFIGS.get(family, NetworkConfig)


def released_network(
    task: str, size: str, family: str = "sapiens", *, variant: VariantSpec | None = None
) -> NetworkConfig:
    """Return the architecture of a released network of the first family, or of this project's demo network.

    Args:
        task: What it predicts.
        size: Name of the released size, e.g. "0.3b", or "demo".
        family: Generation.
        variant: What its outputs stand for; None: the task's default.

    Raises:
        ValueError: There is no such size.
    """
    if size == DEMO_SIZE:
        return _demo_network_for(task, variant)
    sizes = FAMILIES[family].sizes
    if size not in sizes:
        raise ValueError(
            f"size must be one of {[DEMO_SIZE, *sizes]}, got {size!r}; describe other networks with --network"
        )
    spec, backbone = recipe(family, task), sizes[size]
    variant = variant or spec.variants[0]
    return NetworkConfig(
        family=family,
        task=task,
        embed_dim=backbone.embed_dim,
        num_layers=backbone.num_layers,
        num_heads=backbone.num_heads,
        patch_padding=variant.patch_padding,
        input_hw=spec.network_hw,
        head_channels=spec.head.channels if spec.head else 0,
        num_outputs=variant.num_outputs or backbone.embed_dim,
        labels=variant.labels,
    )


def released_config(
    task: str, size: str, family: str | None = None, *, variant: VariantSpec | None = None
) -> WeightsConfig:
    """Return the architecture of a released network of any family, or of this project's demo network.

    Args:
        task: What it predicts.
        size: Name of the released size, e.g. "0.3b", or "demo".
        family: Generation; None: the first that has the task in this size.
        variant: What its outputs stand for; None: the task's default.

    Raises:
        ValueError: There is no such network.
    """
    family = family or _family_with(task, size)
    if family == FAMILY and size != DEMO_SIZE:
        return released_sapiens2(task, size)
    return released_network(task, size, family, variant=variant)


def released_sizes(task: str, family: str) -> list[str]:
    """Return the names of the sizes that a family's task is released in."""
    return sapiens2_sizes(task) if family == FAMILY else list(FAMILIES[family].sizes)


def _family_with(task: str, size: str) -> str:
    """Return the first family with a task in a size, else the first one with the task, to refuse the size."""
    families = [family for family, facts in FAMILIES.items() if task in facts.recipes]
    return next((family for family in families if size in FAMILIES[family].sizes), families[0])


@cache
def demo_network(task: str) -> NetworkConfig:
    """Return the architecture of the small network that this project has trained for a task."""
    return cast("NetworkConfig", read_network(_demo_file(task), task))


def _demo_file(task: str) -> Path:
    return DEMO_NETWORKS / f"{task}.json"


def _demo_network_for(task: str, variant: VariantSpec | None) -> NetworkConfig:
    config = demo_network(task)
    if variant is not None and variant.labels != config.labels:
        raise ValueError(
            f"the demo network of {task} has the labels {config.labels!r}, got {variant.labels!r}; "
            "choose a released size for others"
        )
    return config


def default_labels(task: str, num_outputs: int, family: str = "sapiens") -> str:
    """Return the name of the task's first released set of keypoints or classes of this size; empty: none."""
    variants = recipe(family, task).variants
    return next((variant.labels for variant in variants if variant.num_outputs == num_outputs), "")


def read_network(path: Path, task: str) -> WeightsConfig:
    """Read an architecture from a JSON file.

    Its keys are the attributes of `NetworkConfig`, or for the second family of `Sapiens2NetworkConfig`;
    there, the `config.json` beside published weights will do too. "labels" may be left out: then the task's
    first released set with this number of outputs is meant, if there is one. So may "position_hw".

    Raises:
        ValueError: The file is not such a description, or describes another task than `task`.
    """
    try:
        text = path.read_text()
        config = _config_in(text, task)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"network description {path} must be a readable JSON file with the attributes of a network: "
            f"{error}; correct it"
        ) from error
    if config.task != task:
        raise ValueError(f"network description {path} must be for {task}, got {config.task}")
    if "labels" in json.loads(text):
        return config
    return replace(config, labels=default_labels(config.task, config.num_outputs, config.family))


def _config_in(text: str, task: str) -> WeightsConfig:
    facts = json.loads(text)
    if isinstance(facts, dict) and facts.get("model_type") == FAMILY:
        from sapiens_export.networks.sapiens2 import config_of_transformers  # here: it loads transformers

        return config_of_transformers(facts, task)
    family = facts.get("family") if isinstance(facts, dict) else None
    return from_json(config_type(str(family)), text)
