"""What became of each of many images, and the bound on how many are under way."""

from __future__ import annotations

import asyncio
import os
import traceback
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, Literal, TypeAlias, TypeVar

from sapiens_client.errors import InvalidInputError, SapiensError

R = TypeVar("R")

DEFAULT_CONCURRENCY = 8

OnError: TypeAlias = Literal["raise", "yield"]


@dataclass(frozen=True, eq=False)
class Item(Generic[R]):
    """What became of one image.

    Attributes:
        index: Its place among the images, from 0.
        image: Its path as it was given; None where it was no path, because an item keeps no pixels alive.
        answer: The result, or the error that stands in its place.
    """

    index: int
    image: str | os.PathLike[str] | None
    answer: R | SapiensError

    @property
    def error(self) -> SapiensError | None:
        """What went wrong; None: nothing."""
        return self.answer if isinstance(self.answer, SapiensError) else None

    @property
    def result(self) -> R:
        """The result; raises what went wrong."""
        if isinstance(self.answer, SapiensError):
            raise self.answer
        return self.answer


@dataclass(frozen=True)
class Limits:
    """How many images are asked about at a time, in which order they come back, and what an error does."""

    concurrency: int
    ordered: bool
    on_error: OnError

    @classmethod
    def checked(cls, concurrency: int, *, ordered: bool, on_error: OnError) -> Limits:
        """Return the limits.

        Raises:
            InvalidInputError: There are none such.
        """
        if not isinstance(concurrency, int) or concurrency < 1:
            raise InvalidInputError(
                f"concurrency must be a whole number from 1, got {concurrency!r}; 1 asks one after another"
            )
        if on_error not in ("raise", "yield"):
            raise InvalidInputError(f"on_error must be 'raise' or 'yield', got {on_error!r}")
        return cls(concurrency, ordered, on_error)


@dataclass(frozen=True, eq=False)
class WithBoxes:
    """An image, and the boxes of the persons in it."""

    image: object
    bboxes: object


def path_of(image: object) -> str | os.PathLike[str] | None:
    """Return what an item keeps of an image: its path, if it is one."""
    image = image.image if isinstance(image, WithBoxes) else image
    return image if isinstance(image, str | os.PathLike) else None


@dataclass(frozen=True, eq=False)
class Outcome(Generic[R]):
    """What a call came to: an item, or the error that is raised when its turn has come."""

    index: int
    item: Item[R] | BaseException

    @classmethod
    def of(
        cls,
        index: int,
        path: str | os.PathLike[str] | None,
        done: Future[R] | asyncio.Future[R],
        on_error: OnError,
    ) -> Outcome[R]:
        """Decide whether an error travels in an item, which keeps no image alive.

        Args:
            index: Of the image.
            path: Of the image, if it has one.
            done: The call.
            on_error: What the caller wants.
        """
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            return cls(index, Item(index, path, done.result()))
        if on_error == "yield" and isinstance(error, SapiensError):
            _release_locals(error)
            return cls(index, Item(index, path, error))
        return cls(index, error)


def _release_locals(error: BaseException | None) -> None:
    """Let go of the images in the local variables of a call that failed; where it failed stays known."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class Move(Enum):
    """What whoever iterates does next."""

    TAKE = auto()
    WAIT = auto()
    HAND_BACK = auto()
    END = auto()


class Window(Generic[R]):
    """What was taken from the input and not handed back, and what comes next.

    One image is taken when an item is wanted, and more only while none is ready.
    """

    def __init__(self, limits: Limits) -> None:
        self._size = limits.concurrency * (2 if limits.ordered else 1)
        self._ordered = limits.ordered
        self._num_taken = self._num_returned = 0
        self._is_owed = self._is_more = True
        self._ready: dict[int, Item[R] | BaseException] = {}

    @property
    def move(self) -> Move:
        """What to do next."""
        has_room = self._num_taken - self._num_returned < self._size
        is_ready = self._num_returned in self._ready if self._ordered else bool(self._ready)
        if self._is_more and has_room and (self._is_owed or not is_ready):
            return Move.TAKE
        if self._num_taken == self._num_returned:
            return Move.END
        return Move.HAND_BACK if is_ready else Move.WAIT

    def next_index(self) -> int:
        """Count an image that is taken."""
        self._num_taken += 1
        self._is_owed = False
        return self._num_taken - 1

    def end(self) -> None:
        """Take no more: there are no further images."""
        self._is_more = False

    def put(self, outcome: Outcome[R]) -> None:
        """Keep what a call came to until it is its turn."""
        self._ready[outcome.index] = outcome.item

    def pop(self) -> Item[R]:
        """Hand back the next item, or raise the error in its place."""
        item = self._ready.pop(self._num_returned if self._ordered else next(iter(self._ready)))
        self._num_returned += 1
        self._is_owed = True
        if isinstance(item, BaseException):
            raise item
        return item
