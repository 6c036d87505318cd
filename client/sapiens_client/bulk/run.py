"""Many images, asked about several at a time: lazily, in bounded memory, and stopped at once.

Images are taken from the input by whoever iterates over the items: one when an item is wanted, and more only
while none is ready. With a concurrency of c at most c images are asked about at a time, and at most c (in the
order of the images: 2c) are taken and not handed back, however slow the reader or a single image is.

Who stops early, by `break`, an error or Ctrl-C, waits for nothing: what was not started is dropped. Calls
under way on threads end by their own deadline, or when their client is closed, and keep Python for two
seconds at most from exiting; calls in tasks are cancelled.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any, Generic, TypeVar

from sapiens_client.bulk.items import DEFAULT_CONCURRENCY, Item, Limits, OnError, Outcome, Window
from sapiens_client.wire.background import Alive, started

T = TypeVar("T")
R = TypeVar("R")


def mapped(
    ask: Callable[[T], R],
    images: Iterable[T],
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    ordered: bool = True,
    on_error: OnError = "raise",
) -> Generator[Item[R], None, None]:
    """Ask about every image, on threads.

    Args:
        ask: Called on up to `concurrency` threads at a time.
        images: What to ask about, taken lazily by the thread that iterates; a generator is closed in the end.
        concurrency: How many to ask about at a time.
        ordered: Hand the items back in the order of the images, else as they are ready.
        on_error: "raise" ends with the first error, when `ordered` the first in that order. "yield" returns
            SapiensErrors in their items and goes on; any other exception ends it all the same.

    Returns:
        The items, computed while iterating; closing it stops everything.

    Raises:
        InvalidInputError: `concurrency` or `on_error` cannot be used.
    """
    limits = Limits.checked(concurrency, ordered=ordered, on_error=on_error)
    return _mapped(ask, images, limits)


def mapped_async(
    ask: Callable[[T], Awaitable[R]],
    images: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    ordered: bool = True,
    on_error: OnError = "raise",
) -> AsyncGenerator[Item[R], None]:
    """Ask about every image, in tasks of the running event loop.

    As with every asynchronous generator, `break` alone ends it later; `contextlib.aclosing` ends it at once.

    Args:
        ask: Awaited for up to `concurrency` images at a time.
        images: What to ask about, taken lazily. A generator is closed at the end.
        concurrency: How many to ask about at a time.
        ordered: Hand the items back in the order of the images, else as they are ready.
        on_error: "raise" ends with the first error, when `ordered` the first in that order. "yield" returns
            SapiensErrors in their items and goes on; any other exception ends it all the same.

    Returns:
        The items, computed while iterating; closing it cancels everything.

    Raises:
        InvalidInputError: `concurrency` or `on_error` cannot be used.
    """
    limits = Limits.checked(concurrency, ordered=ordered, on_error=on_error)
    return _mapped_async(ask, images, limits)


def _mapped(ask: Callable[[T], R], images: Iterable[T], limits: Limits) -> Generator[Item[R], None, None]:
    window: Window[R] = Window(limits)
    with _taken_from(images) as source, _Threads(ask, limits) as threads:
        is_more = True
        while True:
            while is_more and window.has_room:
                is_more = threads.take(source, window)
                threads.collect(window)
                if window.is_ready:
                    break
            if window.is_empty:
                return
            while not window.is_ready:
                window.put(threads.outcomes.get())
            yield window.pop()


async def _mapped_async(
    ask: Callable[[T], Awaitable[R]], images: Iterable[T] | AsyncIterable[T], limits: Limits
) -> AsyncGenerator[Item[R], None]:
    window: Window[R] = Window(limits)
    async with _taken_from_async(images) as source, _Tasks(ask, limits) as tasks:
        is_more = True
        while True:
            while is_more and window.has_room:
                is_more = await tasks.take(source, window)
                tasks.collect(window)
                if window.is_ready:
                    break
            if window.is_empty:
                return
            while not window.is_ready:
                window.put(await tasks.outcomes.get())
            yield window.pop()


@contextmanager
def _taken_from(images: Iterable[T]) -> Iterator[Iterator[T]]:
    source = iter(images)
    try:
        yield source
    finally:
        if isinstance(source, Generator):
            source.close()


@asynccontextmanager
async def _taken_from_async(
    images: Iterable[T] | AsyncIterable[T],
) -> AsyncIterator[Iterator[T] | AsyncIterator[T]]:
    source = aiter(images) if isinstance(images, AsyncIterable) else iter(images)
    try:
        yield source
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()
        elif isinstance(source, Generator):
            source.close()


@dataclass(frozen=True, eq=False)
class _Question(Generic[T]):
    index: int
    image: T
    context: Context = field(default_factory=copy_context)  # of whoever iterates


class _Threads(Generic[T, R]):
    """Threads that ask, as many as are needed; nobody waits for them to end."""

    def __init__(self, ask: Callable[[T], R], limits: Limits) -> None:
        self.outcomes: SimpleQueue[Outcome[R]] = SimpleQueue()
        self._ask = ask
        self._limits = limits
        self._questions: SimpleQueue[_Question[T] | None] = SimpleQueue()
        self._num_threads = 0
        self._is_over = Event()
        _CREWS.add(self)

    def __enter__(self) -> _Threads[T, R]:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.dismiss()

    def dismiss(self) -> None:
        """Start nothing more; threads end with the call that they are in."""
        self._is_over.set()
        with suppress(Empty):
            while True:
                self._questions.get_nowait()  # threads that still ask must not keep these images alive
        for _ in range(self._num_threads):
            self._questions.put(None)

    def take(self, source: Iterator[T], window: Window[R]) -> bool:
        """Have the next image asked about; False: there is none."""
        for image in source:
            self._questions.put(_Question(window.next_index(), image))
            if self._num_threads < self._limits.concurrency:
                started(self._work, name=f"sapiens-{self._num_threads}")
                self._num_threads += 1
            return True
        return False

    def collect(self, window: Window[R]) -> None:
        """Put what is finished into the window, without waiting."""
        while not self.outcomes.empty():
            window.put(self.outcomes.get())

    def _work(self) -> None:
        while self._answer_one():
            pass

    def _answer_one(self) -> bool:
        # A function of its own, so that a thread that waits for the next image holds no image.
        question = self._questions.get()
        if question is None or self._is_over.is_set():
            return False
        outcome = question.context.run(self._outcome, question)
        del question  # errors refer to this frame
        outcome.release_locals()
        self.outcomes.put(outcome)
        return True

    def _outcome(self, question: _Question[T]) -> Outcome[R]:
        index, image = question.index, question.image
        try:
            return Outcome(index, Item.of(index, image, self._ask(image)))
        except BaseException as error:  # noqa: BLE001  whoever iterates gets it
            return Outcome.of_error(index, image, error, self._limits.on_error)


_CREWS: Alive[_Threads[Any, Any]] = Alive()


@atexit.register
def _dismiss_all() -> None:
    """Start nothing more when Python exits; `threads` waits for those that are under way."""
    for crew in _CREWS.listed():
        crew.dismiss()


class _Tasks(Generic[T, R]):
    """Tasks that ask, one per image taken; those that are left in the end are cancelled."""

    def __init__(self, ask: Callable[[T], Awaitable[R]], limits: Limits) -> None:
        self.outcomes: asyncio.Queue[Outcome[R]] = asyncio.Queue()
        self._ask = ask
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> _Tasks[T, R]:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def take(self, source: Iterator[T] | AsyncIterator[T], window: Window[R]) -> bool:
        """Have the next image asked about; False: there is none."""
        if isinstance(source, AsyncIterator):
            async for image in source:
                self._start(window.next_index(), image)
                return True
        else:
            for image in source:
                self._start(window.next_index(), image)
                return True
        return False

    def collect(self, window: Window[R]) -> None:
        """Put what is finished into the window, without waiting."""
        while not self.outcomes.empty():
            window.put(self.outcomes.get_nowait())

    def _start(self, index: int, image: T) -> None:
        task = asyncio.create_task(self._answer(_Question(index, image)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, question: _Question[T]) -> None:
        try:
            async with self._turns:
                outcome = await self._outcome(question)
        except BaseException as error:
            self.outcomes.put_nowait(Outcome(question.index, error))
            raise
        del question  # errors refer to this frame
        outcome.release_locals()
        self.outcomes.put_nowait(outcome)

    async def _outcome(self, question: _Question[T]) -> Outcome[R]:
        index, image = question.index, question.image
        try:
            return Outcome(index, Item.of(index, image, await self._ask(image)))
        except Exception as error:  # noqa: BLE001  whoever iterates gets it
            return Outcome.of_error(index, image, error, self._limits.on_error)
