"""What is served: the networks behind the ensembles, and how their steps fare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from sapiens_client.errors import AuthenticationError, ModelNotServedError
from sapiens_client.results.labels import classes_of, keypoints_of
from sapiens_core.contract.model_info import ModelInfo
from sapiens_core.contract.tensors import KEYPOINTS
from sapiens_core.recipes.lookup import first_recipe, first_recipes

if TYPE_CHECKING:
    from sapiens_client.servers.deadline import Deadline
    from sapiens_client.servers.session import Session
    from sapiens_client.steps import Flow
    from sapiens_client.tasks.served_model import ServedModel

R = TypeVar("R")


@dataclass(frozen=True)
class StepLoad:
    """How one step of an ensemble fared since its server was started, whichever ensemble it worked for.

    Attributes:
        num_requests: How many requests it answered.
        queue_s: How long they waited for it, on average; NaN before the first. [s]
        compute_s: How long it worked on them, on average; on a batch, for each of its requests. [s]
    """

    num_requests: int
    queue_s: float
    compute_s: float


@dataclass(frozen=True)
class ModelCard:
    """One ensemble that answers a task.

    Attributes:
        name: What to pass as `model`; that of the task is the one asked by default.
        info: Origin and kind of its network: family, size, precision, runtime, licence, untrained or not.
        labels: Names of its keypoints or classes, in their order; empty where the task has none.
        parity: How far its engine was from the float32 network when it was exported, by measure, see
            `sapiens verify`; empty where there is no such network.
        steps: How its steps fare at the server that answered, in their order; empty if it keeps that to
            others, see Triton's `--grpc-restricted-protocol=statistics`.
    """

    name: str
    info: ModelInfo
    labels: tuple[str, ...] = field(repr=False)
    parity: Mapping[str, float]
    steps: Mapping[str, StepLoad]


def model_cards(session: Session, deadline: Deadline) -> Flow[dict[str, ModelCard]]:
    """Ask a server what it serves.

    Args:
        session: The servers.
        deadline: When the answer must be here.

    Raises:
        ModelNotServedError: A model is of a release of `sapiens export` that this one does not understand.
        SapiensError: No answer.
    """
    loads = yield from _if_allowed(session.step_loads(deadline), {})
    tasks = tuple(first_recipes())
    names = yield from _if_allowed(session.model_names(deadline), tasks)
    cards = {}
    for task in tasks:
        for name in sorted(name for name in names if name.partition("_")[0] == task):
            try:
                served = yield from session.served_model(name, deadline)
            except ModelNotServedError:
                continue
            if served.is_exported and served.answers(task):  # else it is another ensemble, or a step
                cards[name] = _card(served, loads)
    return cards


def _if_allowed(question: Flow[R], otherwise: R) -> Flow[R]:
    try:
        return (yield from question)
    except AuthenticationError:
        return otherwise


def _card(served: ServedModel, loads: Mapping[str, StepLoad]) -> ModelCard:
    info = served.info
    labels: tuple[str, ...] = ()
    kind = first_recipe(info.task).labels
    if kind == "keypoints":
        labels = keypoints_of(info, served.output_dims[KEYPOINTS.name][1]).names
    elif kind == "classes" and info.labels:
        labels = classes_of(info).names
    steps = {step: loads[step] for step in served.steps if step in loads}
    return ModelCard(served.name, info, labels, served.parity, steps)
