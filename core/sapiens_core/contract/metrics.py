"""What the Python models of a server count, beside Triton's own metrics, at the same address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Reason: TypeAlias = Literal["incomplete", "too_large", "format", "damaged", "boxes", "other"]
REASONS: tuple[Reason, ...] = get_args(Reason)


class RefusedError(ValueError):
    """What somebody sent cannot be worked on.

    Args:
        sentence: What came in and what to do.
        reason: The same in one word, for counting.
    """

    def __init__(self, sentence: str, reason: Reason) -> None:
        super().__init__(sentence)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Metric:
    """One metric; its labels are `model`, `process` (of an instance of the model) and those named here.

    Attributes:
        name: In Prometheus.
        about: What it counts.
        buckets: Upper bounds of a histogram; none: it is a counter.
        label: A further label.
        values: What that may be.
    """

    name: str
    about: str
    buckets: tuple[float, ...] = ()
    label: str = ""
    values: tuple[str, ...] = ("",)


REFUSED = Metric(
    "sapiens_refused_inputs_total",
    "Requests refused because of what they contain.",
    label="reason",
    values=REASONS,
)
FAILED = Metric("sapiens_failures_total", "Requests that failed although nothing is wrong with them.")
STEP_SECONDS = Metric(
    "sapiens_step_seconds",
    "Duration of a step for one request; of an engine, for one batch. Waiting is not part of it.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
PERSONS = Metric(
    "sapiens_persons_per_image",
    "Persons found in an image, or whose boxes came with it.",
    buckets=(0, 1, 2, 4, 8, 16, 32, 64),
)
