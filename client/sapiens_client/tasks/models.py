"""Asks a server what it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from sapiens_client.errors import AuthenticationError, ModelNotServedError
from sapiens_client.results.labels import classes_of, keypoints_of
from sapiens_client.results.models import ModelCard
from sapiens_core.contract.tensors import KEYPOINTS
from sapiens_core.recipes.lookup import first_recipe, first_recipes

if TYPE_CHECKING:
    from sapiens_client.deadline import Deadline
    from sapiens_client.results.models import StepLoad
    from sapiens_client.servers.session import Session
    from sapiens_client.steps import Flow
    from sapiens_client.wire.served_model import ServedModel

R = TypeVar("R")


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


def _if_allowed(flow: Flow[R], otherwise: R) -> Flow[R]:
    try:
        return (yield from flow)
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
