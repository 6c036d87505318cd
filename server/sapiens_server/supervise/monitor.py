"""Asks a running server how it is, on threads of its own, so that a hang of it is nobody else's."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from sapiens_server.loading import Loading
from sapiens_server.shared_memory import FOLDER
from sapiens_server.supervise.api import UNANSWERED, Counts, Reply, ServerApi
from sapiens_server.supervise.canary import (
    Outcome,
    canary_models,
    canary_request,
    outcome_of,
    own_models,
    steps_of,
)
from sapiens_server.supervise.exhaustion import Exhaustion
from sapiens_server.supervise.health import Cause, Health

_LOOK_EVERY_S = 1.0
_LIST_EVERY_S = 5.0
_CANARY_EVERY_S = 30.0  # for models that nobody asks; others show by their answers that they work
_QUIET_PER_CANARY = 50  # times its duration, so that canaries take 2 % of an idle server at most
_SUSPICIOUS_EVERY_S = 2.0
_CANARY_TIMEOUT_S = 1800.0  # a large network takes minutes on a processor
_PATIENCE_S = 60.0
_HANG_S = 15.0
_MAX_FAILURES = 2


@dataclass
class _Model:
    """What is known about one model that canaries ask.

    Attributes:
        steps: The models that work on its requests; where all of them have worked for others, it works.
        is_own: Whether its failures may lead to a restart.
    """

    steps: tuple[str, ...]
    is_own: bool
    is_answered: bool = False
    num_failures: int = 0  # in a row
    asked_s: float = 0.0
    took_s: float = 0.0
    num_backend_failures: float = 0.0  # of all models, when it was asked

    def turn(self) -> tuple[bool, int]:
        """Return its place among others: those with many steps come first, as they stand for others."""
        return not self.is_own, -len(self.steps)


@dataclass
class _Step:
    """When a model was last seen to have answered more requests than before."""

    num_succeeded: float = 0.0
    worked_s: float = 0.0

    def note(self, num_succeeded: float) -> None:
        if num_succeeded > self.num_succeeded:
            self.num_succeeded, self.worked_s = num_succeeded, time.monotonic()


@dataclass
class _Canary:
    """One that is under way."""

    model: str
    work: Loading
    is_own: bool
    asked_s: float = field(default_factory=time.monotonic)
    is_late: bool = False


@dataclass(frozen=True)
class Verdict:
    """Why a server must be restarted."""

    cause: Cause
    why: str


@dataclass
class Monitor:
    """Watches one server from `start` to `stop`, and writes into `health` what it sees.

    Attributes:
        api: The server.
        group: Id of its process group.
        health: What others read.
        served: Names of the models that the server has loaded, as of the last look.
        verdict: Why the server must be restarted; None: it need not be.
    """

    api: ServerApi
    group: int
    health: Health
    served: tuple[str, ...] = ()
    verdict: Verdict | None = None
    _models: dict[str, _Model] = field(default_factory=dict)
    _steps: defaultdict[str, _Step] = field(default_factory=lambda: defaultdict(_Step))
    _configs: dict[str, Mapping[str, object]] = field(default_factory=dict)
    _num_canaries: int = 0
    _canary: _Canary | None = None
    _exhaustion: Exhaustion = field(default_factory=Exhaustion)
    _counts: Counts = field(default_factory=lambda: Counts({}, 0, 0, 0))
    _answered_s: float = field(default_factory=time.monotonic)
    _num_unready: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin to watch."""
        for work, name in ((self._watch, "server-watch"), (self._send_canaries, "server-canaries")):
            threading.Thread(target=work, name=name, daemon=True).start()

    def stop(self) -> None:
        """Ask and tell no more."""
        self._stopped.set()

    def _watch(self) -> None:
        listed_s = pause_s = 0.0
        while not self._stopped.wait(pause_s):
            pause_s = _LOOK_EVERY_S
            try:
                is_live = self.api.is_live()
                self._counts = self.api.counts()
            except UNANSWERED:
                is_live = False
            self._note_life(is_live=is_live)
            self._note_shared_memory()
            self._note_canary()
            if is_live and time.monotonic() - listed_s > _LIST_EVERY_S:
                with suppress(*UNANSWERED):  # which may take as long as the loading of a model
                    self._list()
                    listed_s = time.monotonic()

    def _note_life(self, *, is_live: bool) -> None:
        if is_live:
            self._answered_s = time.monotonic()
        if not self._stopped.is_set():
            self.health.answers(is_answering=is_live)
        if time.monotonic() - self._answered_s > _HANG_S:
            self.verdict = Verdict("hang", f"tritonserver has not answered for {_HANG_S:g} s")

    def _note_shared_memory(self) -> None:
        num_answered = sum(self._counts.succeeded.get(name, 0.0) for name in self._models)
        self._exhaustion.note(num_answered - self._num_canaries, self._counts.num_backend_failures)
        if self._exhaustion.is_certain() and not self._stopped.is_set():
            self.verdict = Verdict(
                "shared_memory",
                f"{FOLDER} is full and every request fails; give the container more of it, such as "
                "--shm-size=2g",
            )

    def _note_canary(self) -> None:
        """Tell a model that takes long from one that does nothing."""
        canary = self._canary
        if canary is None or self._stopped.is_set():
            return
        if canary.is_own and canary.work.has_stalled(0):
            self.verdict = Verdict(
                "canary",
                f"{canary.model} has not answered a canary, and nothing has worked for {_PATIENCE_S:g} s",
            )
        elif not canary.is_late and time.monotonic() - canary.asked_s > _PATIENCE_S:
            canary.is_late = True
            self.health.failed(canary.model, f"no answer within {_PATIENCE_S:g} s")

    def _list(self) -> None:
        """Look at what is loaded. From 26.04 on the server itself tells of models with dead processes."""
        names = self.api.ready_models()
        self._configs = {name: self._configs.get(name) or self.api.config(name) for name in names}
        wanted = canary_models(self._configs)
        self._models = {name: self._models.get(name) or self._new(name) for name in wanted}
        unready = tuple(name for name in names if not self.api.is_ready(name))
        self.served = tuple(names)
        if not self._stopped.is_set():
            self.health.serves(wanted)
            self.health.says_unready(unready)
        self._num_unready = self._num_unready + 1 if unready else 0
        if self._num_unready >= _MAX_FAILURES:
            self.verdict = Verdict("model_process", f"{', '.join(unready)} cannot work, says tritonserver")

    def _new(self, name: str) -> _Model:
        return _Model(steps_of(name, self._configs[name]), name in own_models(self._configs))

    def _send_canaries(self) -> None:
        request = canary_request()
        while not self._stopped.wait(_LOOK_EVERY_S / 2):
            for name, model in sorted(self._models.items(), key=lambda item: item[1].turn()):
                if not self._stopped.is_set() and self._is_due(model):
                    self._ask(name, model, request)
                    self._note_counts()

    def _note_counts(self) -> None:
        with suppress(*UNANSWERED):
            self._counts = self.api.counts()

    def _is_due(self, model: _Model) -> bool:
        now, counts = time.monotonic(), self._counts
        for name in model.steps:
            self._steps[name].note(counts.succeeded.get(name, 0.0))
        if not model.is_answered:
            return now - model.asked_s > _LOOK_EVERY_S
        is_suspicious = self._counts.num_backend_failures > model.num_backend_failures
        worked_s = min(self._steps[name].worked_s for name in model.steps)
        is_quiet = now - max(model.asked_s, worked_s) > max(_CANARY_EVERY_S, _QUIET_PER_CANARY * model.took_s)
        return is_quiet or (is_suspicious and now - model.asked_s > _SUSPICIOUS_EVERY_S)

    def _ask(self, name: str, model: _Model, request: bytes) -> None:
        model.num_backend_failures = self._counts.num_backend_failures
        succeeded = self._counts.succeeded.get(name, 0.0)
        asked_s = time.monotonic()
        self._canary = _Canary(name, Loading(self.group, _PATIENCE_S), model.is_own)
        try:
            reply = self.api.infer(name, request, _CANARY_TIMEOUT_S)
            outcome = outcome_of(reply, is_own=model.is_own)
        except UNANSWERED as error:
            reply = Reply(0, (str(error) or type(error).__name__).encode())
            is_alive = self._counts.succeeded.get(name, 0.0) > succeeded  # it has only too much to do
            outcome = Outcome.REFUSED if is_alive else Outcome.FAILED
        self._canary = None
        model.asked_s = time.monotonic()
        model.took_s = model.asked_s - asked_s
        if self._stopped.is_set() or outcome is Outcome.REFUSED:
            return
        model.is_answered = outcome is Outcome.ANSWERED
        model.num_failures = 0 if model.is_answered else model.num_failures + 1
        self._num_canaries += reply.is_ok
        if model.is_answered:
            self.health.answered(name)
            return
        self.health.failed(name, reply.error)
        if model.is_own and model.num_failures >= _MAX_FAILURES:
            self.verdict = Verdict("canary", f"{name} failed canaries: {reply.error}")
