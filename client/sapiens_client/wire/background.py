"""Threads that nobody waits for: they work in the context of whoever starts them, and end by themselves.

They are daemons, because the executors of the standard library are waited for when the interpreter exits,
however long they take. It waits two seconds for these: threads that Python ends inside gRPC's C++ code may
abort the process.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from threading import Thread
from types import TracebackType
from typing import TypeVar
from weakref import WeakSet

R = TypeVar("R")

EXIT_PATIENCE_S = 2.0

_THREADS: WeakSet[Thread] = WeakSet()


def started(
    work: Callable[[], object], *, name: str = "sapiens-client", is_waited_for: bool = True
) -> Thread:
    """Start a thread that works in a copy of the caller's context: its spans and bound loggers.

    Args:
        work: What it does.
        name: What it is called.
        is_waited_for: Give it two seconds when the interpreter exits.
    """
    thread = Thread(target=copy_context().run, args=(work,), name=name, daemon=True)
    if is_waited_for:
        _THREADS.add(thread)
    thread.start()
    return thread


def in_background(function: Callable[[], R]) -> Future[R]:
    """Call a function on a thread of its own, as `started`, and return its result to be."""
    future: Future[R] = Future()
    started(partial(fulfil, future, function))
    return future


def fulfil(future: Future[R], function: Callable[[], R]) -> None:
    """Call a function for its result to be, unless nobody wants it any more."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001  whoever asks for the result gets it
        future.set_exception(error.with_traceback(_beyond_this_frame(error)))
    else:
        future.set_result(result)


def _beyond_this_frame(error: BaseException) -> TracebackType | None:
    """Leave out the frame that holds the future, which would keep the error, and what it refers to, alive."""
    return error.__traceback__.tb_next if error.__traceback__ else None


@atexit.register
def _await_last_calls() -> None:
    """Let threads end by themselves, after whatever was registered later to make their calls end."""
    until_s = time.monotonic() + EXIT_PATIENCE_S
    for thread in list(_THREADS):
        thread.join(max(0.0, until_s - time.monotonic()))
