"""Asks a running server how it is, on threads of its own, so that a hang of it is nobody else's."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from sapiens_server.loading import Loading
from sapiens_server.shared_memory import FOLDER
from sapiens_server.supervise.api import UNANSWERED, Counts, Reply, ServerApi
from sapiens_server.supervise.canary import Outcome, canary_models, canary_request, outcome_of
from sapiens_server.supervise.exhaustion import Exhaustion
from sapiens_server.supervise.health import Cause, Health

_LOOK_EVERY_S = 1.0
_LIST_EVERY_S = 5.0
_CANARY_EVERY_S = 30.0  # for models that nobody asks; others show by their answers that they work
_SUSPICIOUS_EVERY_S = 2.0
_CANARY_TIMEOUT_S = 1800.0  # a large network takes minutes on a processor
_PATIENCE_S = 60.0
_HANG_S = 15.0
_MAX_FAILURES = 2


@dataclass
class _Model:
    """What is known about one model that canaries ask."""

    is_answered: bool = False
    num_failures: int = 0  # in a row
    num_succeeded: float = 0.0
    asked_s: float = 0.0
    worked_s: float = 0.0
    num_backend_failures: float = 0.0  # of all models, when it was asked


@dataclass
class _Canary:
    """One that is under way."""

    model: str
    work: Loading
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
        if canary.work.has_stalled(0):
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
        self._models = {name: self._models.get(name) or _Model() for name in wanted}
        unready = tuple(name for name in names if not self.api.is_ready(name))
        self.served = tuple(names)
        if not self._stopped.is_set():
            self.health.serves(wanted)
            self.health.says_unready(unready)
        self._num_unready = self._num_unready + 1 if unready else 0
        if self._num_unready >= _MAX_FAILURES:
            self.verdict = Verdict("model_process", f"{', '.join(unready)} cannot work, says tritonserver")

    def _send_canaries(self) -> None:
        request = canary_request()
        while not self._stopped.wait(_LOOK_EVERY_S / 2):
            for name, model in dict(self._models).items():
                if not self._stopped.is_set() and self._is_due(name, model):
                    self._ask(name, model, request)

    def _is_due(self, name: str, model: _Model) -> bool:
        now, succeeded = time.monotonic(), self._counts.succeeded.get(name, 0.0)
        if succeeded > model.num_succeeded:
            model.num_succeeded, model.worked_s = succeeded, now
        if not model.is_answered:
            return now - model.asked_s > _LOOK_EVERY_S
        is_suspicious = self._counts.num_backend_failures > model.num_backend_failures
        quiet_s = now - max(model.asked_s, model.worked_s)
        return quiet_s > _CANARY_EVERY_S or (is_suspicious and now - model.asked_s > _SUSPICIOUS_EVERY_S)

    def _ask(self, name: str, model: _Model, request: bytes) -> None:
        model.num_backend_failures = self._counts.num_backend_failures
        succeeded = self._counts.succeeded.get(name, 0.0)
        self._canary = _Canary(name, Loading(self.group, _PATIENCE_S))
        try:
            reply = self.api.infer(name, request, _CANARY_TIMEOUT_S)
            outcome = outcome_of(reply)
        except UNANSWERED as error:
            reply = Reply(0, (str(error) or type(error).__name__).encode())
            is_alive = self._counts.succeeded.get(name, 0.0) > succeeded  # it has only too much to do
            outcome = Outcome.REFUSED if is_alive else Outcome.FAILED
        self._canary = None
        model.asked_s = time.monotonic()
        if self._stopped.is_set() or outcome is Outcome.REFUSED:
            return
        model.is_answered = outcome is Outcome.ANSWERED
        model.num_failures = 0 if model.is_answered else model.num_failures + 1
        self._num_canaries += model.is_answered
        if model.is_answered:
            self.health.answered(name)
            return
        self.health.failed(name, reply.error)
        if model.num_failures >= _MAX_FAILURES:
            self.verdict = Verdict("canary", f"{name} failed canaries: {reply.error}")
