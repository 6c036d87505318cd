"""Threads that nobody waits for: they work in the context of whoever starts them, and end by themselves.

They are daemons, because the executors of the standard library are waited for when the interpreter exits,
however long they take. It waits two seconds for these: threads that Python ends inside gRPC's C++ code may
abort the process.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

R = TypeVar("R")
T = TypeVar("T")

EXIT_PATIENCE_S = 2.0


class Alive(Generic[T]):
    """Objects for as long as somebody else holds them; any number of threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # whatever is collected meanwhile may come back
        self._members: WeakSet[T] = WeakSet()

    def add(self, member: T) -> None:
        """Add an object."""
        with self._lock:
            self._members.add(member)

    def listed(self) -> list[T]:
        """Return those that there are now."""
        with self._lock:
            return list(self._members)


class Attempt(Generic[R]):
    """A `with` block for work that is done for somebody else, who gets its result or whatever it raises.

    Interrupts and cancellations are caught as well, so they must be handed on.

    Attributes:
        result: Set in the block.
        error: What the block raised, if it did.
    """

    result: R

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> Attempt[R]:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self.error = error
        return True

    def handed_to(self, flow: Generator[T, R, Any]) -> T:
        """Resume a generator with it; return what that yields next."""
        if self.error is None:
            return flow.send(self.result)
        try:
            return flow.throw(self.error)
        finally:
            self.error = None  # its traceback refers to whoever holds this


_THREADS: Alive[threading.Thread] = Alive()


def started(
    work: Callable[[], object], *, name: str = "sapiens-client", is_waited_for: bool = True
) -> threading.Thread:
    """Start a thread that works in a copy of the caller's context: its spans and bound loggers.

    Args:
        work: What it does.
        name: What it is called.
        is_waited_for: Give it two seconds when the interpreter exits.
    """
    thread = threading.Thread(target=copy_context().run, args=(work,), name=name, daemon=True)
    thread.start()
    if is_waited_for:
        _THREADS.add(thread)
    return thread


def in_background(function: Callable[[], R], *, is_waited_for: bool = True) -> Future[R]:
    """Call a function on a thread of its own, as `started`, and return its result to be."""
    future: Future[R] = Future()
    started(partial(fulfil, future, function), is_waited_for=is_waited_for)
    return future


def fulfil(future: Future[R], function: Callable[[], R]) -> None:
    """Call a function for its result to be, unless nobody wants it any more."""
    if not future.set_running_or_notify_cancel():
        return
    with Attempt[R]() as attempt:
        attempt.result = function()
    if attempt.error is None:
        future.set_result(attempt.result)
    else:
        future.set_exception(attempt.error.with_traceback(_beyond_this_frame(attempt.error)))


def _beyond_this_frame(error: BaseException) -> TracebackType | None:
    """Leave out the frame that holds the future, which would keep the error, and what it refers to, alive."""
    return error.__traceback__.tb_next if error.__traceback__ else None


@atexit.register
def _await_last_calls() -> None:
    """Let threads end by themselves, after whatever was registered later to make their calls end."""
    until_s = time.monotonic() + EXIT_PATIENCE_S
    for thread in _THREADS.listed():
        thread.join(max(0.0, until_s - time.monotonic()))
