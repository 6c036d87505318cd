"""How the tensors of an ensemble's steps are called in the ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sapiens_core.recipes.tasks import StepSpec, TensorSpec


@dataclass(frozen=True)
class StepMaps:
    """The tensors of one step by their own names, and what they are called in the ensemble.

    Attributes:
        inputs: What the step takes.
        outputs: What it returns, without what nobody wants.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def step_maps(steps: Sequence[StepSpec], outputs: Iterable[TensorSpec]) -> Iterator[StepMaps]:
    """Name the tensors of every step: as the step does, but for one that a later step hands on.

    Args:
        steps: In their order.
        outputs: What the ensemble returns.
    """
    wanted = {tensor.name for step in steps for tensor in step.inputs} | {tensor.name for tensor in outputs}
    names: dict[str, str] = {}
    for index, step in enumerate(steps):
        inputs = {tensor.name: names.get(tensor.name, tensor.name) for tensor in step.inputs}
        later = {tensor.name for other in steps[index + 1 :] for tensor in other.outputs}
        returned = [tensor.name for tensor in step.outputs if tensor.name in wanted]
        names |= {name: f"{step.name}_{name}" if name in later else name for name in returned}
        yield StepMaps(inputs, {name: names[name] for name in returned})
