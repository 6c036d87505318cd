"""Runs flows on an event loop: one gRPC channel per endpoint."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from sapiens_client.background import Attempt, in_background
from sapiens_client.errors import InvalidInputError, SapiensError
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

MAX_THREADS = 32  # that are waited for: so many that read or ask, and as many again that compute


class AsyncTransport:
    """The channels of one client; any number of tasks of one event loop may share it.

    Args:
        settings: How to reach servers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._credentials = channel_credentials(settings)
        self._channels: dict[tuple[Endpoint, bool], grpc.aio.Channel] = {}  # with and without pings
        self._background: set[asyncio.Task[None]] = set()
        self._waited_for: set[asyncio.Future[None]] = set()
        self._reading = asyncio.Semaphore(MAX_THREADS)
        self._computing = asyncio.Semaphore(MAX_THREADS)
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        """Close the channels; calls that are under way end with a ClientClosedError."""
        self._is_closed = True
        for waiting in (*self._background, *self._waited_for):
            waiting.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        while self._channels:
            _, channel = self._channels.popitem()
            await channel.close(None)

    async def run(self, flow: Flow[R]) -> R:
        """Do what a flow asks for, and return its result.

        Raises:
            InvalidInputError: Another event loop ran the flows before this one.
        """
        loop = asyncio.get_running_loop()
        if (self._loop or loop) is not loop:
            raise InvalidInputError(
                "an asynchronous client must stay in one event loop, got a second one; make a client for each"
            )
        self._loop = loop
        try:
            step = next(flow)
            while True:
                with Attempt[Any]() as attempt:  # also an interrupt or cancellation: the flow has to tidy up
                    attempt.result = await self._done(step)
                step = attempt.handed_to(flow)
        except StopIteration as end:
            result_of_flow: R = end.value
            return result_of_flow
        except RpcFailure as failure:  # where the client was closed while a flow waited
            raise closed_error(failure) from failure

    async def _done(self, step: Step) -> Any:
        match step:
            case Send():
                return await self._sent(step)
            case Sleep():
                await self._wait(Future(), step.seconds)
            case Wait():
                await self._wait(step.future, step.timeout_s)
            case Work():
                return await self._worked(step)
            case Together():
                return await self._all_done(step)
            case Spawn():
                task = asyncio.create_task(self._run_alone(step.flow))
                self._background.add(task)
                task.add_done_callback(self._background.discard)
            case HangUp():
                found = [self._channels.pop((step.endpoint, is_pinged), None) for is_pinged in (True, False)]
                for channel in filter(None, found):
                    await channel.close(None)
        return None

    async def _run_alone(self, flow: Flow[None]) -> None:
        with suppress(SapiensError):
            await self.run(flow)

    async def _worked(self, work: Work) -> Any:
        if work.deadline is None:
            async with self._computing:
                return await asyncio.wrap_future(in_background(work.function))
        try:
            # Whoever gives up leaves a thread behind that may hang, and its place to others.
            async with asyncio.timeout(work.deadline.left_s()) as limit, self._reading:
                return await asyncio.wrap_future(in_background(work.function))
        except TimeoutError:
            if not limit.expired():  # it is the function's own
                raise
            raise work.deadline.missed(work.what) from None

    async def _wait(self, future: Future[None], timeout_s: float) -> None:
        if self._is_closed:
            raise RpcFailure(CLOSED, "it is closed")
        waiting = asyncio.wrap_future(future)
        self._waited_for.add(waiting)
        try:
            await asyncio.wait_for(waiting, timeout_s)
        except TimeoutError:
            pass
        except asyncio.CancelledError as error:
            self._raise_if_closed(error)
            raise
        finally:
            self._waited_for.discard(waiting)

    def _raise_if_closed(self, error: asyncio.CancelledError) -> None:
        """Tell a client that was closed from a task that was cancelled."""
        task = asyncio.current_task()
        if self._is_closed and not (task is not None and task.cancelling()):
            raise RpcFailure(CLOSED, "it was closed") from error

    async def _sent(self, send: Send) -> bytes:
        method: Any = self._channel(send.endpoint).unary_unary(SERVICE + send.method, None, None)
        try:
            with no_other_span():
                return whole(await method(send.message, timeout=send.timeout_s, metadata=send.metadata))
        except grpc.aio.AioRpcError as error:
            code = CLOSED if self._is_closed else error.code().name
            raise RpcFailure(code, error.details() or "") from error
        except grpc.aio.UsageError as error:  # how grpc refuses a channel that is closed
            raise RpcFailure(CLOSED, str(error)) from error
        except asyncio.CancelledError as error:
            self._raise_if_closed(error)
            raise

    def _channel(self, endpoint: Endpoint) -> grpc.aio.Channel:
        if self._is_closed:
            raise RpcFailure(CLOSED, "it is closed")
        if (known := self._channels.get((endpoint, endpoint.takes_pings))) is not None:
            return known
        options = channel_options(self._settings, endpoint)
        if self._credentials is None:
            channel = grpc.aio.insecure_channel(endpoint.address, options)
        else:
            channel = grpc.aio.secure_channel(endpoint.address, self._credentials, options)
        self._channels[endpoint, endpoint.takes_pings] = channel
        return channel

    async def _all_done(self, together: Together) -> list[Any]:
        tasks = [asyncio.create_task(self.run(flow)) for flow in together.flows]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
