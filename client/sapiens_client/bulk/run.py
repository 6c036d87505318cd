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
import os
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
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any, Generic, TypeVar

from sapiens_client.background import Alive, fulfil, started
from sapiens_client.bulk.items import (
    DEFAULT_CONCURRENCY,
    Item,
    Limits,
    Move,
    OnError,
    Outcome,
    Window,
    WithBoxes,
    path_of,
)
from sapiens_client.errors import InvalidInputError

T = TypeVar("T")
R = TypeVar("R")

_NONE_LEFT = object()


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
        while (move := window.move) is not Move.END:
            if move is Move.TAKE:
                threads.take(source, window)
            elif move is Move.WAIT:
                window.put(threads.outcomes.get())
            else:
                yield window.pop()


async def _mapped_async(
    ask: Callable[[T], Awaitable[R]], images: Iterable[T] | AsyncIterable[T], limits: Limits
) -> AsyncGenerator[Item[R], None]:
    window: Window[R] = Window(limits)
    async with _taken_from_async(images) as source, _Tasks(ask, limits) as tasks:
        while (move := window.move) is not Move.END:
            if move is Move.TAKE:
                await tasks.take(source, window)
            elif move is Move.WAIT:
                window.put(await tasks.outcomes.get())
            else:
                yield window.pop()


def paired(images: Iterable[object], bboxes: Iterable[object]) -> Generator[WithBoxes, None, None]:
    """Put every image together with its boxes; both are taken one by one.

    Raises:
        InvalidInputError: There are not as many of the one as of the other.
    """
    with _taken_from(images) as some, _taken_from(bboxes) as boxes:
        for image in some:
            yield WithBoxes(image, _checked_boxes(next(boxes, _NONE_LEFT)))
        _check_none_left(next(boxes, _NONE_LEFT))


async def paired_async(
    images: Iterable[object] | AsyncIterable[object], bboxes: Iterable[object] | AsyncIterable[object]
) -> AsyncGenerator[WithBoxes, None]:
    """Put every image together with its boxes, as `paired`."""
    async with _taken_from_async(images) as some, _taken_from_async(bboxes) as boxes:
        async for image in some:
            yield WithBoxes(image, _checked_boxes(await anext(boxes, _NONE_LEFT)))
        _check_none_left(await anext(boxes, _NONE_LEFT))


def _checked_boxes(boxes: object) -> object:
    if boxes is _NONE_LEFT:
        raise InvalidInputError("bboxes must be as many as images, got fewer; None is the whole image")
    return boxes


def _check_none_left(boxes: object) -> None:
    if boxes is not _NONE_LEFT:
        raise InvalidInputError(f"bboxes must be as many as images, got more: {boxes!r:.80}")


@contextmanager
def _taken_from(images: Iterable[T]) -> Iterator[Iterator[T]]:
    source = iter(images)
    try:
        yield source
    finally:
        if isinstance(source, Generator):
            source.close()


@asynccontextmanager
async def _taken_from_async(images: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[AsyncIterator[T]]:
    if not isinstance(images, AsyncIterable):
        with _taken_from(images) as source:
            yield _Awaited(source)
        return
    awaited = aiter(images)
    try:
        yield awaited
    finally:
        if isinstance(awaited, AsyncGenerator):
            await awaited.aclose()


class _Awaited(Generic[T]):
    """Images to await that are there at once; a class, because a generator would keep the last one alive."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source = source

    def __aiter__(self) -> _Awaited[T]:
        return self

    async def __anext__(self) -> T:
        for image in self._source:
            return image
        raise StopAsyncIteration


@dataclass(frozen=True, eq=False)
class _Job(Generic[T]):
    """One image to ask about.

    Attributes:
        index: Its place.
        path: Its path, if it has one.
        images: The image, until it is taken out to be asked about: frames of errors must not keep it alive.
        context: Of whoever iterates.
    """

    index: int
    path: str | os.PathLike[str] | None
    images: list[T]
    context: Context = field(default_factory=copy_context)


class _Threads(Generic[T, R]):
    """Threads that ask, as many as are needed; nobody waits for them to end."""

    def __init__(self, ask: Callable[[T], R], limits: Limits) -> None:
        self.outcomes: SimpleQueue[Outcome[R]] = SimpleQueue()
        self._ask = ask
        self._limits = limits
        self._jobs: SimpleQueue[_Job[T] | None] = SimpleQueue()
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
                self._jobs.get_nowait()  # threads that still ask must not keep these images alive
        for _ in range(self._num_threads):
            self._jobs.put(None)

    def take(self, source: Iterator[T], window: Window[R]) -> None:
        """Have the next image asked about, if there is one, and put what is finished into the window."""
        for image in source:
            self._jobs.put(_Job(window.next_index(), path_of(image), [image]))
            if self._num_threads < self._limits.concurrency:
                started(self._work, name=f"sapiens-{self._num_threads}")
                self._num_threads += 1
            break
        else:
            window.end()
        while not self.outcomes.empty():
            window.put(self.outcomes.get())

    def _work(self) -> None:
        while self._answer_one():
            pass

    def _answer_one(self) -> bool:
        # A function of its own, so that a thread that waits for the next image holds no image.
        job = self._jobs.get()
        if job is None or self._is_over.is_set():
            return False
        done: Future[R] = Future()
        job.context.run(fulfil, done, partial(self._answer, job))
        self.outcomes.put(Outcome.of(job.index, job.path, done, self._limits.on_error))
        return True

    def _answer(self, job: _Job[T]) -> R:
        return self._ask(job.images.pop())


_CREWS: Alive[_Threads[Any, Any]] = Alive()


@atexit.register
def _dismiss_all() -> None:
    """Start nothing more when Python exits; `background` waits for those that are under way."""
    for crew in _CREWS.listed():
        crew.dismiss()


class _Tasks(Generic[T, R]):
    """Tasks that ask, one per image taken; those that are left in the end are cancelled."""

    def __init__(self, ask: Callable[[T], Awaitable[R]], limits: Limits) -> None:
        self.outcomes: asyncio.Queue[Outcome[R]] = asyncio.Queue()
        self._ask = ask
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.concurrency)
        self._tasks: set[asyncio.Task[R]] = set()

    async def __aenter__(self) -> _Tasks[T, R]:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def take(self, source: AsyncIterator[T], window: Window[R]) -> None:
        """Have the next image asked about, if there is one, and put what is finished into the window."""
        async for image in source:
            task = asyncio.create_task(self._answer(image))
            self._tasks.add(task)
            task.add_done_callback(partial(self._note, window.next_index(), path_of(image)))
            break
        else:
            window.end()
        while not self.outcomes.empty():
            window.put(self.outcomes.get_nowait())

    async def _answer(self, image: T) -> R:
        async with self._turns:
            return await self._ask(image)

    def _note(self, index: int, path: str | os.PathLike[str] | None, done: asyncio.Task[R]) -> None:
        self._tasks.discard(done)
        self.outcomes.put_nowait(Outcome.of(index, path, done, self._limits.on_error))
