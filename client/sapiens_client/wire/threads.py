"""Runs flows in the threads that call: one gRPC channel per endpoint."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from sapiens_client.background import Attempt, in_background, started
from sapiens_client.errors import SapiensError
from sapiens_client.steps import (
    CLOSED,
    Flow,
    HangUp,
    RpcFailure,
    Send,
    Sleep,
    Spawn,
    Step,
    Together,
    Wait,
    Work,
)
from sapiens_client.tracing import no_other_span
from sapiens_client.wire.channels import SERVICE, channel_credentials, channel_options, closed_error, whole

if TYPE_CHECKING:
    from sapiens_client.connection.settings import Settings
    from sapiens_client.steps import Endpoint

R = TypeVar("R")


class Transport:
    """The channels of one client; any number of threads may share it.

    Args:
        settings: How to reach servers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._credentials = channel_credentials(settings)
        self._channels: dict[tuple[Endpoint, bool], grpc.Channel] = {}  # with and without pings
        self._waited_for: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """Close the channels; calls that are under way end with a ClientClosedError."""
        with self._lock:
            self._is_closed = True
            channels = list(self._channels.values())
            self._channels.clear()
            for future in self._waited_for:
                future.cancel()
        for channel in channels:
            channel.close()

    def run(self, flow: Flow[R]) -> R:
        """Do what a flow asks for, and return its result."""
        try:
            step = next(flow)
            while True:
                with Attempt[Any]() as attempt:  # also an interrupt or cancellation: the flow has to tidy up
                    attempt.result = self._done(step)
                step = attempt.handed_to(flow)
        except StopIteration as end:
            result_of_flow: R = end.value
            return result_of_flow
        except RpcFailure as failure:  # where the client was closed while a flow waited
            raise closed_error(failure) from failure

    def _done(self, step: Step) -> Any:
        match step:
            case Send():
                return self._sent(step)
            case Sleep():
                self._wait(Future(), step.seconds)
            case Wait():
                self._wait(step.future, step.timeout_s)
            case Work():
                return self._worked(step)
            case Together():
                return self._all_done(step)
            case Spawn():
                started(partial(self._run_alone, step.flow))
            case HangUp():
                self._hang_up(step.endpoint)
        return None

    def _hang_up(self, endpoint: Endpoint) -> None:
        with self._lock:
            found = [self._channels.pop((endpoint, is_pinged), None) for is_pinged in (True, False)]
        for channel in filter(None, found):
            channel.close()

    def _run_alone(self, flow: Flow[None]) -> None:
        with suppress(SapiensError):
            self.run(flow)

    def _worked(self, work: Work) -> Any:
        if work.deadline is None:
            return work.function()
        done = in_background(work.function)
        try:
            return done.result(max(0.0, work.deadline.left_s()))
        except TimeoutError as error:
            if done.done() and done.exception() is error:  # it is the function's own
                raise
            raise work.deadline.missed(work.what) from None

    def _wait(self, future: Future[None], timeout_s: float) -> None:
        with self._lock:
            if self._is_closed:
                raise RpcFailure(CLOSED, "it is closed")
            self._waited_for.add(future)
        try:
            future.result(timeout_s)
        except TimeoutError:
            pass
        except CancelledError as error:
            raise RpcFailure(CLOSED, "it was closed") from error
        finally:
            with self._lock:
                self._waited_for.discard(future)

    def _sent(self, send: Send) -> bytes:
        method = self._channel(send.endpoint).unary_unary(SERVICE + send.method, None, None)
        try:
            with no_other_span():
                return whole(method(send.message, timeout=send.timeout_s, metadata=send.metadata))
        except grpc.RpcError as error:
            code = CLOSED if self._is_closed else error.code().name
            raise RpcFailure(code, error.details() or "") from error
        except ValueError as error:  # how grpc refuses a channel that is closed
            raise RpcFailure(CLOSED, str(error)) from error

    def _channel(self, endpoint: Endpoint) -> grpc.Channel:
        with self._lock:
            if self._is_closed:
                raise RpcFailure(CLOSED, "it is closed")
            if (known := self._channels.get((endpoint, endpoint.takes_pings))) is not None:
                return known
            options = channel_options(self._settings, endpoint)
            if self._credentials is None:
                channel = grpc.insecure_channel(endpoint.address, options)
            else:
                channel = grpc.secure_channel(endpoint.address, self._credentials, options)
            self._channels[endpoint, endpoint.takes_pings] = channel
            return channel

    def _all_done(self, together: Together) -> list[Any]:
        return [done.result() for done in [in_background(partial(self.run, each)) for each in together.flows]]
