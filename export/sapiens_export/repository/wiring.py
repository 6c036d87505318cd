"""Whether the models of an ensemble fit together; no server loads one of several releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sapiens_export.repository.written import EnsembleStep, WrittenModel


def misfits(ensemble: WrittenModel, models: Mapping[str, WrittenModel]) -> list[str]:
    """Say what keeps a server from loading an ensemble.

    Args:
        ensemble: Its config.
        models: The configs of the models that it is made of, by their names; others are left out.
    """
    found: list[str] = []
    for step in ensemble.steps:
        if step.model in models:
            found += _misfits_of_step(step, models[step.model])
    return found + _gaps(ensemble)


def _misfits_of_step(step: EnsembleStep, model: WrittenModel) -> list[str]:
    strange_inputs = step.inputs.keys() - model.inputs
    strange_outputs = step.outputs.keys() - model.outputs
    absent = model.inputs - model.optional - step.inputs.keys()
    return [
        *_told(f"{step.model} does not take", strange_inputs),
        *_told(f"{step.model} does not return", strange_outputs),
        *_told(f"{step.model} is not given", absent),
    ]


def _gaps(ensemble: WrittenModel) -> list[str]:
    """Say which tensors are used and come from nowhere, in whatever order the steps are listed."""
    available, waiting = set(ensemble.inputs), list(ensemble.steps)
    while ready := [step for step in waiting if available.issuperset(step.inputs.values())]:
        available.update(*(step.outputs.values() for step in ready))
        waiting = [step for step in waiting if step not in ready]
    later = {name for step in waiting for name in step.outputs.values()}
    gaps = _unmet(waiting, available | later) or _unmet(waiting, available)  # the cause, else the circle
    return gaps + _told("no step returns", ensemble.outputs - available - later)


def _unmet(steps: Sequence[EnsembleStep], available: set[str]) -> list[str]:
    return [
        problem
        for step in steps
        for problem in _told(f"no step before {step.model} returns", set(step.inputs.values()) - available)
    ]


def _told(what: str, names: Iterable[str]) -> list[str]:
    listed = ", ".join(sorted(names))
    return [f"{what} {listed}"] if listed else []
