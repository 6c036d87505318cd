"""One request, sent as often as that may help: where, when, and what the caller gets if it does not."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sapiens_client.deadline import Deadline
from sapiens_client.errors import (
    AuthenticationError,
    ClientClosedError,
    RequestTimeoutError,
    SapiensError,
    ServerUnavailableError,
    TLSError,
)
from sapiens_client.servers.failures import (
    BROKE_OFF,
    GONE,
    HUNG_UP,
    Failure,
    Meaning,
    Remedy,
    meaning_of,
    plain,
)
from sapiens_client.servers.lookup import Lookup
from sapiens_client.servers.pace import AWAY_PAUSE_S, FULL_PAUSE_S, Pace, pause_s, watch_s
from sapiens_client.servers.probes import PROBE_EVERY_S, READY_METHOD, Probes
from sapiens_client.servers.replicas import Replica, Replicas
from sapiens_client.servers.requests import Answer, Effort, Request, telling
from sapiens_client.servers.sender import LEAST_S
from sapiens_client.steps import Flow, HangUp, RpcFailure, Sleep, Wait

if TYPE_CHECKING:
    from sapiens_client.connection.settings import Settings
    from sapiens_client.servers.known import Known
    from sapiens_client.servers.pace import Turn
    from sapiens_client.servers.sender import Sender

_LOG = logging.getLogger("sapiens_client")

_READY_TIMEOUT_S = 2.0
_LEAST_READY_S = 0.01
_FINAL = (AuthenticationError, ClientClosedError, TLSError)  # waiting for a server does not change them
_AT_ONCE = (Remedy.AGAIN, Remedy.WITHOUT_PINGS)
_ADVICE_TO_PLAIN = "pass tls if it wants encryption, or look whether a server is behind that address"
_ADVICE_TO_ENCRYPTED = (
    "give TLS a client certificate that it accepts, or look whether a server is behind that address"
)


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
        sender: Makes the RPCs.
        known: Told which servers went away, or do not know the shared memory that is registered there.
    """

    def __init__(self, settings: Settings, sender: Sender, known: Known) -> None:
        options = settings.options
        self._replicas = Replicas(settings.targets)
        self._lookup = Lookup(settings.targets, self._replicas, options.resolve_every_s)
        self._identity = settings.identity
        self._max_attempts = options.max_attempts
        self._patience_s = options.patience_s
        self._paces: dict[tuple[str, str], Pace] = {}
        self._tls_advice = _ADVICE_TO_ENCRYPTED if settings.pems else _ADVICE_TO_PLAIN
        self._sender = sender
        self._known = known
        self._probes = Probes(self._replicas, sender, known)

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
            once = Deadline.after(max(_LEAST_READY_S, min(_READY_TIMEOUT_S, deadline.left_s())))
            reason = yield from self._why_not_ready(once)
            if reason is None:
                return
            if reason.is_final:
                raise reason.error
            if deadline.left_s() <= PROBE_EVERY_S:
                raise RequestTimeoutError(
                    f"a server must be ready within {deadline.timeout_s:g} s, but: {reason.error}"
                ) from reason.error
            yield Sleep(PROBE_EVERY_S)

    def _why_not_ready(self, deadline: Deadline) -> Flow[_Reason | None]:
        """Return why the last of the replicas is not ready; None: one is."""
        try:
            yield from self._lookup.refreshed(deadline)
        except (ServerUnavailableError, RequestTimeoutError) as error:
            return _Reason(error, is_final=False)
        replicas = self._replicas.listed()
        reason = None
        for position, replica in enumerate(replicas):
            timeout_s = deadline.left_s() / (len(replicas) - position)
            try:
                if (yield from self._probes.says_ready(replica, timeout_s)):
                    self._replicas.says_ready(replica)
                    return None
                failure = RpcFailure("UNAVAILABLE", "it answers, but not all of its models are loaded")
            except RpcFailure as raised:
                failure = raised
            except SapiensError as error:  # of a token
                return _Reason(error, is_final=isinstance(error, _FINAL))
            meaning = meaning_of(failure)
            failed = Failure(failure, meaning, replica)
            why = self._error(Request(READY_METHOD), [failed], deadline)
            reason = _Reason(why, is_final=isinstance(why, _FINAL) and meaning is not HUNG_UP)
        return reason

    def answer(self, request: Request, deadline: Deadline) -> Flow[Answer]:
        """Send a request until it is answered, nothing helps, or its time is over.

        Raises:
            SapiensError: What the last try failed for.
        """
        pace = self._paces.setdefault((request.method, request.model), Pace())
        hopeless_at_s = time.monotonic() + self._patience_s
        effort, started_s = Effort(request, deadline, hopeless_at_s, pace), time.monotonic()
        try:
            while True:
                yield from self._tend(effort)
                yield from self._until_return(effort)
                turn = yield from self._until_turn(effort)
                outcome = yield from self._tried(effort)
                if isinstance(outcome, Answer):
                    pace.answered(turn)
                    _log_answer(request, outcome, time.monotonic() - started_s)
                    return outcome
                effort.failures.append(outcome)
                if not self._may_help(effort):
                    _log_end(effort, time.monotonic() - started_s)
                    raise self._error(request, effort.failures, deadline)
                if outcome.meaning.remedy in _AT_ONCE or self._replicas.has_other(effort.tried):
                    _log_retry(effort, 0.0)
                else:
                    yield from self._paused(effort, turn)
        finally:
            effort.give_back()

    def _left_s(self, effort: Effort) -> float:
        """Return how long it is of use to wait for an answer."""
        left_s = effort.deadline.left_s()
        if self._replicas.has_answered:
            return left_s
        return min(left_s, effort.hopeless_at_s - time.monotonic())

    def _until_turn(self, effort: Effort) -> Flow[Turn]:
        """Return the request's turn, after waiting while as many are under way as the servers take.

        It has not begun where the time is over and no server was full of late: the try then tells so.
        """
        deadline = effort.deadline
        if effort.turn is None:
            effort.turn = effort.pace.line_up(deadline.ends_at_s)
        turn = effort.turn
        if turn.has_begun:
            return turn
        yield Wait(turn.begun, deadline.left_s())
        if turn.has_begun and deadline.left_s() > 0:
            return turn
        refusal = effort.failures[-1] if effort.failures else effort.pace.refusal
        if refusal is not None:
            error = self._error(effort.request, [refusal], deadline)
            error.attempts = len(effort.failures)
            raise error
        return turn

    def _until_return(self, effort: Effort) -> Flow[None]:
        """Wait, without a turn, while all replicas are away; probes tell when one is back."""
        if not self._replicas.are_away:
            return
        effort.give_back()
        returned = self._replicas.next_return()
        try:
            yield Wait(returned, watch_s(self._left_s(effort)))
        finally:
            returned.cancel()

    def _tried(self, effort: Effort) -> Flow[Answer | Failure]:
        """Send a request once, to the best replica."""
        request, deadline = effort.request, effort.deadline
        replica = self._replicas.take(effort.tried)
        was_unhealthy, was_pinged = replica.is_unhealthy, replica.endpoint.takes_pings
        left_s = deadline.left_s()
        try:
            message = request.message
            if not isinstance(message, bytes):
                message = yield from message(replica.endpoint, left_s)
            reply = yield from self._sender.sent_by(
                deadline, replica.endpoint, request.method, message, request.all_headers
            )
            self._replicas.answered(replica, was_unhealthy=was_unhealthy)
            attempts = len(effort.failures) + 1
            return Answer(reply, len(message), replica.address, attempts, request.request_id)
        except RpcFailure as error:
            meaning = yield from self._meaning(error, replica, deadline)
            if meaning.remedy is Remedy.WITHOUT_PINGS and not was_pinged:
                meaning = BROKE_OFF
            return Failure(error, meaning, replica, was_unhealthy, left_s)
        finally:
            self._replicas.give_back(replica)

    def _may_help(self, effort: Effort) -> bool:
        """Return whether to send a request again that has just failed."""
        meaning = effort.failures[-1].meaning
        if meaning.remedy is Remedy.AGAIN:  # from now on the tensors travel
            return effort.num_again == 1
        if meaning.remedy in (Remedy.NONE, Remedy.LOOK_AFTER):
            return False
        return effort.num_suspect < self._max_attempts and self._left_s(effort) > LEAST_S

    def _paused(self, effort: Effort, turn: Turn) -> Flow[None]:
        """Wait, without a turn, before a request is sent again that every replica refused."""
        last, pace, num_pauses, max_s = effort.failures[-1], effort.pace, effort.num_pauses, AWAY_PAUSE_S
        if last.meaning.remedy is Remedy.LATER:
            pace.refused(turn, last, len(self._replicas.listed()))
            num_pauses, max_s = max(num_pauses, pace.num_in_vain - 1), FULL_PAUSE_S
        effort.give_back()
        wait_s = pause_s(num_pauses, self._left_s(effort), max_s)
        _log_retry(effort, wait_s)
        try:
            yield Sleep(wait_s)
        finally:
            pace.awake(turn)
        effort.num_before_pause = len(effort.failures)
        effort.num_pauses += not (last.was_unhealthy and self._replicas.are_away)

    def _tend(self, effort: Effort) -> Flow[None]:
        """Look up names, have replicas probed that are unhealthy, close connections to those that left."""
        yield from self._lookup.refreshed(effort.deadline, effort.hopeless_at_s - time.monotonic())
        yield from self._probes.watch()
        for replica in self._replicas.take_left():
            yield HangUp(replica.endpoint)

    def _meaning(self, failure: RpcFailure, replica: Replica, deadline: Deadline) -> Flow[Meaning]:
        """Return what a failure means, after asking the replica where that depends, and act on it."""
        meaning = meaning_of(failure)
        if meaning is HUNG_UP and replica.has_answered:
            meaning = GONE
        if meaning.remedy is Remedy.ASK_WHETHER_READY:
            is_ready = yield from self._probes.is_ready(replica, deadline.left_s())
            meaning = replace(meaning, remedy=Remedy.NONE if is_ready else Remedy.ELSEWHERE)
        if meaning.remedy is Remedy.LOOK_AFTER:
            yield from self._probes.look_after(replica)
        if meaning.remedy in (Remedy.ELSEWHERE, Remedy.REST):
            self._replicas.mark_unhealthy(replica, to_rest=meaning.remedy is Remedy.REST)
        if meaning.remedy is Remedy.ELSEWHERE:
            self._known.server_gone(replica.endpoint)
        if meaning.remedy is Remedy.AGAIN:
            self._known.memory.region_unknown(replica.endpoint)
        if meaning.remedy is Remedy.LATER:
            replica.has_answered = True  # that it is full
        if meaning.remedy is Remedy.WITHOUT_PINGS:
            replica.endpoint.takes_pings = False
        return meaning

    def _error(self, request: Request, failures: list[Failure], deadline: Deadline) -> SapiensError:
        last = telling(failures, deadline.timeout_s)
        error = last.meaning.error(
            last.error,
            url=last.replica.address,
            model=request.model,
            timeout_s=deadline.timeout_s,
            about=f" about request {request.request_id}" if request.request_id else "",
            identity_advice=self._identity.advice(request.headers),
            tls_advice=self._tls_advice,
        )
        error.__cause__ = last.error
        error.url = last.replica.address
        error.attempts = len(failures)
        error.request_id = request.request_id
        return error


def _log_answer(request: Request, answer: Answer, took_s: float) -> None:
    _LOG.debug(
        "%s %s answered by %s at try %d in %.3f s: %d bytes there, %d back",
        request.method,
        " ".join(filter(None, (request.model, request.request_id))),
        answer.url,
        answer.attempts,
        took_s,
        answer.request_bytes,
        len(answer.reply),
    )


def _log_end(effort: Effort, took_s: float) -> None:
    last, request = effort.failures[-1], effort.request
    _LOG.debug(
        "%s %s given up after try %d at %s in %.3f s: %s: %s",
        request.method,
        " ".join(filter(None, (request.model, request.request_id))),
        len(effort.failures),
        last.replica.address,
        took_s,
        last.error.code,
        plain(last.error.text),
    )


def _log_retry(effort: Effort, wait_s: float) -> None:
    last, request = effort.failures[-1], effort.request
    _LOG.info(
        "try %d of %s %s failed at %s with %s: %s; trying again in %.2f s",
        len(effort.failures),
        request.method,
        request.request_id or request.model,
        last.replica.address,
        last.error.code,
        plain(last.error.text),
        wait_s,
    )
