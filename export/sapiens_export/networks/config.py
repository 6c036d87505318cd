"""What a network looks like: enough to build it, nothing about its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, get_type_hints

from sapiens_core.tasks import FAMILIES, PATCH_SIZE, TASKS, Task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CUSTOM_SIZE = "custom"


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
        head_channels: Width of the decode head.
        num_outputs: Output channels.
    """

    family: str
    task: Task
    embed_dim: int
    num_layers: int
    num_heads: int
    patch_padding: int
    input_hw: tuple[int, int]
    head_channels: int
    num_outputs: int

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.family not in FAMILIES:
            raise ValueError(f"family must be one of {sorted(FAMILIES)}, got {self.family!r}")
        counts = {name: value for name, value in asdict(self).items() if isinstance(value, int)}
        too_small = {
            name: value for name, value in counts.items() if value < (0 if name == "patch_padding" else 1)
        }
        if too_small:
            raise ValueError(f"sizes of a network must be positive, got {too_small}")
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}"
            )
        if any(side < PATCH_SIZE or side % PATCH_SIZE for side in self.input_hw):
            raise ValueError(f"input_hw must be positive multiples of {PATCH_SIZE}, got {self.input_hw}")

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.input_hw[0] // PATCH_SIZE, self.input_hw[1] // PATCH_SIZE

    @property
    def output_hw(self) -> tuple[int, int]:
        """Height and width of the network's output."""
        stride = TASKS[self.task].output_stride
        return self.input_hw[0] // stride, self.input_hw[1] // stride

    @property
    def size(self) -> str:
        """Name of the released size with this architecture, else "custom"."""
        sizes = FAMILIES[self.family].sizes
        return next(
            (name for name in sizes if self == released_network(self.task, name, self.family)), CUSTOM_SIZE
        )


def released_network(task: Task, size: str, family: str = "sapiens") -> NetworkConfig:
    """Return the architecture of a released network.

    Args:
        task: What it predicts.
        size: Name of the released size, e.g. "0.3b".
        family: Generation.

    Raises:
        ValueError: There is no such size.
    """
    sizes = FAMILIES[family].sizes
    if size not in sizes:
        raise ValueError(
            f"size must be one of {list(sizes)}, got {size!r}; describe other networks with --network"
        )
    spec, backbone = TASKS[task], sizes[size]
    return NetworkConfig(
        family=family,
        task=task,
        embed_dim=backbone.embed_dim,
        num_layers=backbone.num_layers,
        num_heads=backbone.num_heads,
        patch_padding=spec.patch_padding,
        input_hw=spec.network_hw,
        head_channels=spec.head.channels,
        num_outputs=spec.num_outputs,
    )


def read_network(path: Path, task: Task) -> NetworkConfig:
    """Read an architecture from a JSON file whose keys are the attributes of `NetworkConfig`.

    Raises:
        ValueError: The file is not such a description, or describes another task than `task`.
    """
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"network description {path} must be a readable JSON file: {error}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"network description {path} must be a JSON object, got {type(facts).__name__}")
    config = _network_from_facts(facts, path)
    if config.task != task:
        raise ValueError(f"network description {path} must be for {task.value}, got {config.task.value}")
    return config


def _network_from_facts(facts: Mapping[str, Any], path: Path) -> NetworkConfig:
    names = {field.name for field in fields(NetworkConfig)}
    if set(facts) != names:
        raise ValueError(
            f"network description {path} must have the keys {sorted(names)}; "
            f"missing {sorted(names - set(facts))}, unknown {sorted(set(facts) - names)}"
        )
    hints = get_type_hints(NetworkConfig)
    wrong = {name: facts[name] for name in names if hints[name] is int and type(facts[name]) is not int}
    sides = facts["input_hw"]
    if wrong or not (
        isinstance(sides, list) and len(sides) == 2 and all(type(side) is int for side in sides)
    ):
        raise ValueError(
            f"network description {path} must have integers, and input_hw as [height, width]; "
            f"got {dict(facts)}"
        )
    if facts["task"] not in set(Task):
        raise ValueError(
            f"task in {path} must be one of {[task.value for task in Task]}, got {facts['task']!r}"
        )
    return NetworkConfig(**{**facts, "task": Task(facts["task"]), "input_hw": tuple(sides)})
