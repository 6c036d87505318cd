"""One request, sent as often as that may help: where, when, and what the caller gets if it does not."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sapiens_client.deadline import Deadline
from sapiens_client.errors import (
    AuthenticationError,
    ClientClosedError,
    InferenceError,
    RequestTimeoutError,
    ServerUnavailableError,
    TLSError,
)
from sapiens_client.failures import CLOSED, GONE, HUNG_UP, Meaning, Remedy, meaning_of, plain
from sapiens_client.flows import Flow, HangUp, RpcFailure, Send, Sleep, Spawn
from sapiens_client.names import Names
from sapiens_client.replicas import Replica, Replicas, RetryBudget

if TYPE_CHECKING:
    from sapiens_client.errors import SapiensError
    from sapiens_client.settings import Settings

_LOG = logging.getLogger("sapiens_client")

_READY_METHOD = "ServerReady"
_YES = b"\x08\x01"  # ServerReadyResponse { ready: true }
_PROBE_EVERY_S = 0.25
_PROBE_TIMEOUT_S = 0.5
_READY_TIMEOUT_S = 2.0
_LEAST_S = 0.01
_FIRST_WAIT_S = 0.05
_FINAL = (AuthenticationError, ClientClosedError, TLSError)  # waiting for a server does not change them
# A server that is back is found by a probe, after an attempt to connect that may be half a second away.
_PATIENCE_S = 1.5
_LOOK_S = 0.02
_ADVICE_TO_PLAIN = "pass tls if it wants encryption, or look whether a server is behind that address"
_ADVICE_TO_ENCRYPTED = (
    "give TLS a client certificate that it accepts, or look whether a server is behind that address"
)


@dataclass(frozen=True)
class Request:
    """What is sent.

    Attributes:
        method: Name of the remote method.
        message: It serialised; or a function of the replica and the seconds left that makes it, every time.
        model: Which model it is about.
        request_id: What the server's log calls it, if anything.
    """

    method: str
    message: bytes | Callable[[Replica, float], Flow[bytes]] = b""
    model: str = ""
    request_id: str | None = None


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        reply: The serialised reply.
        request_bytes: Size of the request.
        url: Address of the replica that answered.
        attempts: How often the request was sent.
        request_id: What the server's log calls it, if anything.
    """

    reply: bytes
    request_bytes: int
    url: str
    attempts: int
    request_id: str | None

    def error(self, sentence: str) -> InferenceError:
        """Return the error that this is not what was asked for."""
        error = InferenceError(sentence)
        error.url, error.attempts, error.request_id = self.url, self.attempts, self.request_id
        return error


@dataclass(frozen=True)
class _Failure:
    """One try that failed.

    Attributes:
        error: How.
        meaning: What that means.
        replica: Where.
        was_aside: Whether the replica was known to be in trouble before.
    """

    error: RpcFailure
    meaning: Meaning
    replica: Replica
    was_aside: bool


@dataclass(frozen=True)
class _Reason:
    """Why there is no replica that is ready.

    Attributes:
        error: In words.
        is_final: Waiting does not help.
    """

    error: SapiensError
    is_final: bool


class Attempts:
    """Sends requests of one client to its replicas; threads and tasks may share it.

    Args:
        settings: Where servers are, who asks, and how often to try.
        on_gone: Called with every replica that went away, which may come back with other models.
        on_forgotten: Called with every replica that could not use shared memory that it was told about.
    """

    def __init__(
        self,
        settings: Settings,
        on_gone: Callable[[Replica], object],
        on_forgotten: Callable[[Replica], object],
    ) -> None:
        options = settings.options
        self._replicas = Replicas(settings.targets)
        self._names = Names(settings.targets, self._replicas, options.resolve_every_s)
        self._identity = settings.identity
        self._max_attempts = options.max_attempts
        self._budget = RetryBudget(options.retry_share)
        self._tls_advice = _ADVICE_TO_ENCRYPTED if settings.pems else _ADVICE_TO_PLAIN
        self._on_gone = on_gone
        self._on_forgotten = on_forgotten

    def is_ready(self, deadline: Deadline) -> Flow[bool]:
        """Return whether some replica answers and all its models are loaded.

        Raises:
            ClientClosedError: The client is closed.
        """
        reason = yield from self._why_not_ready(deadline)
        if reason is not None and isinstance(reason.error, ClientClosedError):
            raise reason.error
        return reason is None

    def wait_until_ready(self, deadline: Deadline) -> Flow[None]:
        """Ask again and again until some replica is ready.

        Raises:
            RequestTimeoutError: None was in time.
            SapiensError: Waiting does not help: the client is closed, or a certificate is not trusted.
        """
        while True:
            once = Deadline.after(max(_LEAST_S, min(_READY_TIMEOUT_S, deadline.left_s())))
            reason = yield from self._why_not_ready(once)
            if reason is None:
                return
            if reason.is_final:
                raise reason.error
            if deadline.left_s() <= _PROBE_EVERY_S:
                raise RequestTimeoutError(
                    f"a server must be ready within {deadline.timeout_s:g} s, but: {reason.error}"
                ) from reason.error
            yield Sleep(_PROBE_EVERY_S)

    def _why_not_ready(self, deadline: Deadline) -> Flow[_Reason | None]:
        """Return why the last of the replicas is not ready; None: one is."""
        try:
            yield from self._names.refreshed(deadline)
        except (ServerUnavailableError, RequestTimeoutError) as error:
            return _Reason(error, is_final=False)
        replicas = self._replicas.listed()
        reason = None
        for position, replica in enumerate(replicas):
            timeout_s = deadline.left_s() / (len(replicas) - position)
            try:
                if (yield from self._says_ready(replica, timeout_s)):
                    self._replicas.says_ready(replica)
                    return None
                failure = RpcFailure("UNAVAILABLE", "it answers, but not all of its models are loaded")
            except RpcFailure as raised:
                failure = raised
            meaning = meaning_of(failure)
            failed = _Failure(failure, meaning, replica, was_aside=False)
            told = self._error(Request(_READY_METHOD), [failed], deadline)
            reason = _Reason(told, is_final=isinstance(told, _FINAL) and meaning is not HUNG_UP)
        return reason

    def answer(self, request: Request, deadline: Deadline) -> Flow[Answer]:
        """Send a request until it is answered or nothing helps.

        Raises:
            SapiensError: What the last try failed for.
        """
        self._budget.earn()
        failures: list[_Failure] = []
        patient_until_s = time.monotonic() + min(_PATIENCE_S, deadline.left_s() / 2)
        while True:
            yield from self._tend(deadline)
            while self._replicas.may_come_back and time.monotonic() < patient_until_s:
                yield Sleep(_LOOK_S)
            replica = self._replicas.take([failure.replica for failure in failures])
            was_aside = replica.is_aside
            try:
                message = request.message
                if not isinstance(message, bytes):
                    message = yield from message(replica, deadline.left_s())
                reply = yield from self.sent(replica, request.method, message, deadline.left_s())
                self._replicas.answered(replica, was_aside=was_aside)
                attempts = len(failures) + 1
                return Answer(reply, len(message), replica.address, attempts, request.request_id)
            except RpcFailure as error:
                meaning = yield from self._meaning(error, replica, deadline)
                failures.append(_Failure(error, meaning, replica, was_aside))
            finally:
                self._replicas.give_back(replica)
            wait_s = self._wait_s(failures, deadline)
            if wait_s is None:
                raise self._error(request, failures, deadline) from failures[-1].error
            _log_retry(request, failures, wait_s)
            yield Sleep(wait_s)

    def _tend(self, deadline: Deadline) -> Flow[None]:
        """Look up names, have replicas probed that are aside, close connections to those that left."""
        yield from self._names.refreshed(deadline)
        for replica in self._replicas.to_probe():
            yield Spawn(self._probe(replica))
        for replica in self._replicas.take_left():
            yield HangUp(replica)

    def sent(self, replica: Replica, method: str, message: bytes, timeout_s: float) -> Flow[bytes]:
        """Send a message to a replica once, and return its reply; it may fail with an RpcFailure."""
        metadata = yield from self._identity.metadata()
        reply: bytes = yield Send(replica, method, message, timeout_s, metadata)
        return reply

    def _says_ready(self, replica: Replica, timeout_s: float) -> Flow[bool]:
        return (yield from self.sent(replica, _READY_METHOD, b"", timeout_s)) == _YES

    def _probe(self, replica: Replica) -> Flow[None]:
        """Ask a replica until it is ready, or nobody wants to know any more."""
        try:
            while self._replicas.is_wanted(replica):
                yield Sleep(_PROBE_EVERY_S)
                try:
                    if (yield from self._says_ready(replica, _PROBE_TIMEOUT_S)):
                        self._replicas.says_ready(replica)
                except RpcFailure as failure:
                    if failure.code == CLOSED:
                        return
        finally:
            replica.is_probed = False

    def _look_after(self, replica: Replica) -> Flow[None]:
        """Set a replica aside that has kept somebody waiting, unless it says that it is ready."""
        try:
            is_ready = yield from self._says_ready(replica, _PROBE_TIMEOUT_S)
        except RpcFailure:
            is_ready = False
        finally:
            replica.is_doubted = False
        if not is_ready:
            self._replicas.set_aside(replica)
            self._on_gone(replica)

    def _meaning(self, failure: RpcFailure, replica: Replica, deadline: Deadline) -> Flow[Meaning]:
        """Return what a failure means, after asking the replica where that depends, and act on it."""
        meaning = meaning_of(failure)
        if meaning is HUNG_UP and replica.has_answered:
            meaning = GONE
        if meaning.remedy is Remedy.ASK_WHETHER_READY:
            try:
                is_ready = yield from self._says_ready(replica, min(_PROBE_TIMEOUT_S, deadline.left_s()))
            except RpcFailure:
                is_ready = False
            meaning = replace(meaning, remedy=Remedy.NONE if is_ready else Remedy.ELSEWHERE)
        if meaning.remedy is Remedy.LOOK_AFTER and self._replicas.to_look_after(replica):
            yield Spawn(self._look_after(replica))
        if meaning.remedy in (Remedy.ELSEWHERE, Remedy.REST):
            self._replicas.set_aside(replica, to_rest=meaning.remedy is Remedy.REST)
        if meaning.remedy is Remedy.ELSEWHERE:
            self._on_gone(replica)
        if meaning.remedy is Remedy.AGAIN:
            self._on_forgotten(replica)
        return meaning

    def _wait_s(self, failures: list[_Failure], deadline: Deadline) -> float | None:
        """Return how long to wait before the next try; None: there shall be none."""
        last = failures[-1]
        num_again = sum(each.meaning.remedy is Remedy.AGAIN for each in failures)
        if last.meaning.remedy is Remedy.AGAIN:  # from now on the tensors travel
            return 0.0 if num_again == 1 else None
        has_other = self._replicas.has_other([failure.replica for failure in failures])
        # What was under way at a replica that goes away moves for nothing: that is never more than it had.
        has_gone = last.meaning.remedy is Remedy.ELSEWHERE and not last.was_aside
        moves = has_gone and (has_other or self._replicas.may_come_back)
        num_queued = sum(each.meaning.remedy is Remedy.ONCE_ELSEWHERE for each in failures)
        if last.meaning.remedy in (Remedy.NONE, Remedy.LOOK_AFTER) or len(failures) >= self._max_attempts:
            return None
        if last.meaning.remedy is Remedy.ONCE_ELSEWHERE and (num_queued > 1 or not has_other):
            return None
        wait_s = 0.0 if has_other or moves else _FIRST_WAIT_S * 2 ** len(failures) * random.uniform(0.5, 1)
        if wait_s >= deadline.left_s():
            return None
        return wait_s if moves or self._budget.spend() else None

    def _error(self, request: Request, failures: list[_Failure], deadline: Deadline) -> SapiensError:
        last = failures[-1]
        error = last.meaning.error(
            last.error,
            url=last.replica.address,
            model=request.model,
            timeout_s=deadline.timeout_s,
            about=f" about request {request.request_id}" if request.request_id else "",
            identity_advice=self._identity.advice,
            tls_advice=self._tls_advice,
        )
        error.url = last.replica.address
        error.attempts = len(failures)
        error.request_id = request.request_id
        return error


def _log_retry(request: Request, failures: list[_Failure], wait_s: float) -> None:
    last = failures[-1]
    _LOG.info(
        "try %d of %s %s failed at %s with %s: %s; trying again in %.2f s",
        len(failures),
        request.method,
        request.request_id or request.model,
        last.replica.address,
        last.error.code,
        plain(last.error.text),
        wait_s,
    )
