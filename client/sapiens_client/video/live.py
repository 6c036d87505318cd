"""What comes from elsewhere: no wait that cannot be interrupted, and of what is live the newest frame."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sapiens_client.background import Attempt, in_background, started

if TYPE_CHECKING:
    from sapiens_client.video.decoding import Frame

R = TypeVar("R")


def left_behind(function: Callable[[], R]) -> Future[R]:
    """Call FFmpeg on a thread of its own: no Ctrl-C reaches one that is in there, nor need it end at exit."""
    return in_background(function, is_waited_for=False)


def interruptible(frames: Iterator[Frame]) -> Generator[Frame, None, None]:
    """Decode each frame on a thread that is left behind where the wait for it is interrupted."""
    while (frame := left_behind(partial(next, frames, None)).result()) is not None:
        yield frame


class _Slot:
    """Room for one frame, which a newer one replaces."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._error: BaseException | None = None
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether no further frames are wanted or come."""
        return self._is_over

    def put(self, frame: Frame) -> None:
        """Keep a frame in place of the one that nobody took."""
        with self._changed:
            self._frame = frame
            self._changed.notify()

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing follows, and why."""
        with self._changed:
            self._is_over, self._error = True, error
            self._changed.notify()

    def take(self) -> Frame | None:
        """Wait for a frame and take it; None: it is over."""
        with self._changed:
            while self._frame is None and not self._is_over:
                self._changed.wait()
            if self._frame is None and self._error is not None:
                raise self._error
            frame, self._frame = self._frame, None
            return frame


def newest(frames: Iterator[Frame]) -> Generator[Frame, None, None]:
    """Decode on a thread of its own, and hand on what is new: a server that is slower makes no delay grow.

    Args:
        frames: Taken as they come.
    """
    slot = _Slot()
    started(partial(_fill, frames, slot), name="sapiens-live", is_waited_for=False)
    try:
        while (frame := slot.take()) is not None:
            yield frame
    finally:
        slot.end()


def _fill(frames: Iterator[Frame], slot: _Slot) -> None:
    with Attempt[None]() as attempt:
        for frame in frames:
            slot.put(frame)
            if slot.is_over:
                break
    slot.end(attempt.error)
