"""How long to wait before a request is sent again, and how many may be under way while a server is full."""

from __future__ import annotations

import heapq
import math
import random
import threading
from concurrent.futures import Future
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sapiens_client.servers.requests import Failure

LEAST_S = 0.02  # with less time left no further try is worth its while
_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 5.0
_SLOWER = 0.7


def pause_s(num_before: int, left_s: float) -> float:
    """Return how long to wait before a request is sent again: anything up to a bound, so that none meet.

    Args:
        num_before: How many pauses there were before this one; each doubles the bound, up to 5 s.
        left_s: What is left of the call's time, within which there shall be one more try.
    """
    longest_s = min(_FIRST_PAUSE_S * 2.0 ** min(num_before, 10), _MAX_PAUSE_S)
    return random.uniform(0, max(0.0, min(longest_s, left_s - LEAST_S)))


def watch_s(left_s: float) -> float:
    """Return how long to wait for servers that are away to say that they are ready, before trying anyway.

    Args:
        left_s: What is left of the call's time, half of which is kept for that try.
    """
    return min(random.uniform(0.5, 1) * _MAX_PAUSE_S, max(0.0, left_s / 2))


class Pace:
    """Turns of one client's requests to a model; threads and tasks may share it.

    There is no limit until every server has refused a request for being full. Then fewer are sent at a time,
    and one more again for each round of answers: who waits, waits here and makes no load. Those whose
    deadline is the next to pass come first.

    Attributes:
        refusal: The last one; None: there was none.
    """

    def __init__(self) -> None:
        self.refusal: Failure | None = None
        self._lock = threading.Lock()
        self._limit = math.inf
        self._num_under_way = 0
        self._round = 0
        self._line: list[tuple[float, int, Future[None]]] = []
        self._order = count()

    @property
    def limit(self) -> float:
        """How many requests may be under way at a time."""
        return self._limit

    def line_up(self, ends_at_s: float) -> Future[None]:
        """Return what is done once it is a request's turn; whoever gets it gives it back.

        Args:
            ends_at_s: Its deadline.
        """
        turn: Future[None] = Future()
        with self._lock:
            heapq.heappush(self._line, (ends_at_s, next(self._order), turn))
            self._call()
        return turn

    def give_back(self, turn: Future[None]) -> None:
        """End a turn, or leave the line."""
        is_in_line = turn.cancel()
        with self._lock:
            self._num_under_way -= not is_in_line
            self._call()

    @property
    def round(self) -> int:
        """What a request notes that is sent now, for `refused`."""
        return self._round

    @property
    def is_exceeded(self) -> bool:
        """Whether so many are under way that one which is sent again should line up again."""
        return self._num_under_way > self._limit

    def answered(self) -> None:
        """Note that there was room: allow one more for every round of answers."""
        with self._lock:
            self._limit += 1 / self._limit
            self._call()

    def refused(self, sent_in_round: int, refusal: Failure) -> None:
        """Note that there was no room: allow fewer, once for all requests that met it together."""
        with self._lock:
            self.refusal = refusal
            if sent_in_round == self._round:
                self._round += 1
                self._limit = max(1.0, _SLOWER * min(self._limit, self._num_under_way))

    def _call(self) -> None:
        """Let those begin whose turn it is; who holds the lock calls this."""
        while self._line:
            _, _, turn = self._line[0]
            if not turn.cancelled() and self._num_under_way + 1 > self._limit:
                return
            heapq.heappop(self._line)
            if turn.set_running_or_notify_cancel():
                self._num_under_way += 1
                turn.set_result(None)
