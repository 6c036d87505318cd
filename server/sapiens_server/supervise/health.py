"""How a supervised server is: written by those who watch it, read by whoever asks."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Literal

Phase = Literal["loading", "serving", "restarting", "draining"]
Cause = Literal["died", "model_process", "canary", "hang", "shared_memory"]
CAUSES: tuple[Cause, ...] = ("died", "model_process", "canary", "hang", "shared_memory")


@dataclass(frozen=True)
class Status:
    """How a server is at one moment.

    Attributes:
        is_ready: Whether it should be sent requests.
        phase: What its supervisor is doing.
        problems: Why it should not, one sentence each.
        models: Whether each model that takes images has answered a canary since it last failed to.
    """

    is_ready: bool
    phase: Phase
    problems: tuple[str, ...]
    models: dict[str, bool]


class Health:
    """Collects what is known about the server at hand. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phase: Phase = "loading"
        self._since_s = time.monotonic()
        self._is_answering = False
        self._unready: tuple[str, ...] = ()
        self._models: dict[str, str | None] | None = None
        self._restarts: Counter[Cause] = Counter()
        self._failures: Counter[str] = Counter()
        self._model_deaths = 0

    def enter(self, phase: Phase) -> None:
        """Begin a phase; while loading, what was known about an earlier server is forgotten."""
        with self._lock:
            self._phase, self._since_s = phase, time.monotonic()
            if phase in ("loading", "restarting"):
                self._is_answering, self._unready, self._models = False, (), None

    def answers(self, *, is_answering: bool) -> None:
        """Tell whether the server answers at all."""
        with self._lock:
            self._is_answering = is_answering

    def says_unready(self, models: tuple[str, ...]) -> None:
        """Tell which models the server itself calls unready."""
        with self._lock:
            self._unready = models

    def serves(self, models: tuple[str, ...]) -> None:
        """Tell which models must answer canaries; what is known about them is kept."""
        with self._lock:
            known = self._models or {}
            self._models = {name: known.get(name, "has not answered a canary yet") for name in models}

    def answered(self, model: str) -> None:
        """Tell that a model has answered a canary."""
        with self._lock:
            if self._models is not None and model in self._models:
                self._models[model] = None

    def failed(self, model: str, why: str) -> None:
        """Tell that a model has not answered a canary as it should."""
        with self._lock:
            self._failures[model] += 1
            if self._models is not None and model in self._models:
                self._models[model] = f"failed a canary: {why}"

    def restarts(self, cause: Cause) -> None:
        """Tell that the server is being restarted."""
        with self._lock:
            self._restarts[cause] += 1
            self._model_deaths += cause == "model_process"

    def status(self) -> Status:
        """Return how the server is."""
        with self._lock:
            problems = []
            if self._phase != "serving":
                problems.append(f"tritonserver is {self._phase}")
            elif not self._is_answering:
                problems.append("tritonserver does not answer")
            elif self._models is None:
                problems.append("tritonserver has not been asked about its models yet")
            problems += [f"{name} is unready, says tritonserver" for name in self._unready]
            models = self._models or {}
            problems += [f"{name} {problem}" for name, problem in models.items() if problem]
            answered = {name: problem is None for name, problem in models.items()}
            return Status(not problems, self._phase, tuple(problems), answered)

    def metrics(self) -> str:
        """Return the supervisor's own figures in Prometheus' text format."""
        status = self.status()
        with self._lock:
            restarts = {f'{{cause="{cause}"}}': self._restarts[cause] for cause in CAUSES}
            failures = {f'{{model="{name}"}}': self._failures[name] for name in status.models}
            figures = (
                ("ready", "gauge", "Whether every served model has answered.", {"": int(status.is_ready)}),
                ("draining", "gauge", "Whether it is about to end.", {"": int(status.phase == "draining")}),
                ("restarts_total", "counter", "Restarts of tritonserver.", restarts),
                ("stub_deaths_total", "counter", "Deaths of models' processes.", {"": self._model_deaths}),
                ("canary_failures_total", "counter", "Canaries that failed.", failures),
                (
                    "phase_seconds",
                    "gauge",
                    "Time since it began to load, serve, restart or drain.",
                    {f'{{phase="{status.phase}"}}': round(time.monotonic() - self._since_s, 3)},
                ),
            )
        return "".join(_family(f"sapiens_serve_{name}", *rest) for name, *rest in figures)


def _family(name: str, kind: object, about: object, values: object) -> str:
    samples = values.items() if isinstance(values, dict) else ()
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    return "\n".join([*lines, *(f"{name}{labels} {value}" for labels, value in samples), ""])
