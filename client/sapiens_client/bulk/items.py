"""What became of each of many images, and the bound on how many are under way."""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
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

    @classmethod
    def of(cls, index: int, image: object, answer: R | SapiensError) -> Item[R]:
        """Forget the image unless it is a path."""
        return cls(index, image if isinstance(image, str | os.PathLike) else None, answer)

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
class Outcome(Generic[R]):
    """What a call came to: an item, or the error that is raised when its turn has come."""

    index: int
    item: Item[R] | BaseException

    @classmethod
    def of_error(cls, index: int, image: object, error: BaseException, on_error: OnError) -> Outcome[R]:
        """Decide whether an error, caught by the caller, travels in an item."""
        if on_error == "raise" or not isinstance(error, SapiensError):
            return cls(index, error)
        return cls(index, Item.of(index, image, error))

    def release_locals(self) -> None:
        """Let go of the images in the local variables of a call that failed; where it failed stays known."""
        error: BaseException | None = self.item.error if isinstance(self.item, Item) else None
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            traceback.clear_frames(error.__traceback__)
            error = error.__cause__ or error.__context__


class Window(Generic[R]):
    """What was taken from the input and not handed back, and which of it comes next."""

    def __init__(self, limits: Limits) -> None:
        self._size = limits.concurrency * (2 if limits.ordered else 1)
        self._ordered = limits.ordered
        self._num_taken = self._num_returned = 0
        self._ready: dict[int, Item[R] | BaseException] = {}

    @property
    def has_room(self) -> bool:
        """Whether another image may be taken."""
        return self._num_taken - self._num_returned < self._size

    @property
    def is_empty(self) -> bool:
        """Whether everything taken was handed back."""
        return self._num_taken == self._num_returned

    @property
    def is_ready(self) -> bool:
        """Whether the next item is here."""
        return self._num_returned in self._ready if self._ordered else bool(self._ready)

    def next_index(self) -> int:
        """Count an image that is taken."""
        self._num_taken += 1
        return self._num_taken - 1

    def put(self, outcome: Outcome[R]) -> None:
        """Keep what a call came to until it is its turn."""
        self._ready[outcome.index] = outcome.item

    def pop(self) -> Item[R]:
        """Hand back the next item, or raise the error in its place."""
        item = self._ready.pop(self._num_returned if self._ordered else next(iter(self._ready)))
        self._num_returned += 1
        if isinstance(item, BaseException):
            raise item
        return item
