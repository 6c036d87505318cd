"""What is served: the networks behind the ensembles, and how their steps fare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sapiens_core.contract.model_info import ModelInfo


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
