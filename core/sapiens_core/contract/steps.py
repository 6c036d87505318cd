"""The steps of an ensemble, and how their tensors are called in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sapiens_core.contract.tensors import TensorSpec


# What a step does; the module of `sapiens_core.triton` that serves it has the same name.
Kind = Literal["image", "persons", "engine", "finish", "torch_finish", "people"]


@dataclass(frozen=True)
class StepSpec:
    """One model of an ensemble.

    No tensor both feeds a later step and is what the ensemble returns: Triton forgets it where the later step
    is not needed for what a caller asks. Such facts are returned twice, or once more by the later step.

    Attributes:
        name: The model's name in the repository.
        kind: What it does: prepares whole images or persons, runs an engine, finishes what that returns, on
            the CPU or, by torch, on the engine's device, or finds people and does all of it.
        inputs: Tensors it takes, by the names they have in the ensemble.
        outputs: Tensors it returns.
    """

    name: str
    kind: Kind
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def by_position(step: StepSpec) -> StepSpec:
    """Return a step whose tensors are called by their places: INPUT__0, OUTPUT__0 and so on.

    Source: what Triton's PyTorch backend calls the tensors of an AOTInductor package, which has no names.
    """
    inputs, outputs = (
        tuple(replace(tensor, name=f"{side}__{index}") for index, tensor in enumerate(tensors))
        for side, tensors in (("INPUT", step.inputs), ("OUTPUT", step.outputs))
    )
    return replace(step, inputs=inputs, outputs=outputs)


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
    final = {tensor.name for tensor in outputs}
    names: dict[str, str] = {}
    for index, step in enumerate(steps):
        inputs = {tensor.name: names.get(tensor.name, tensor.name) for tensor in step.inputs}
        later = {tensor.name for other in steps[index + 1 :] for tensor in other.outputs}
        returned = [
            tensor.name
            for tensor in step.outputs
            if _is_taken(tensor.name, steps[index + 1 :])
            or (tensor.name in final and tensor.name not in later)
        ]
        names |= {name: f"{step.name}_{name}" if name in later else name for name in returned}
        yield StepMaps(inputs, {name: names[name] for name in returned})


def _is_taken(name: str, steps: Sequence[StepSpec]) -> bool:
    """Return whether some step takes a tensor, before or when another one of that name is returned."""
    for step in steps:
        if name in {tensor.name for tensor in step.inputs}:
            return True
        if name in {tensor.name for tensor in step.outputs}:
            return False
    return False
