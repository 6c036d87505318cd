"""How long to wait before a request is sent again, and how many may be under way while a server is full."""

from __future__ import annotations

import heapq
import math
import random
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from sapiens_client.servers.sender import LEAST_S

if TYPE_CHECKING:
    from sapiens_client.servers.failures import Failure

FULL_PAUSE_S = 1.0  # at most: room may come at any moment, and nobody tells
AWAY_PAUSE_S = 5.0
_FIRST_PAUSE_S = 0.05
_SLOWER = 0.7


def pause_s(num_before: int, left_s: float, max_s: float = AWAY_PAUSE_S) -> float:
    """Return how long to wait before a request is sent again: anything up to a bound, so that none meet.

    Args:
        num_before: How many pauses there were before this one; each doubles the bound.
        left_s: What is left of the call's time, within which there shall be one more try.
        max_s: How far the bound may grow.
    """
    longest_s = min(_FIRST_PAUSE_S * 2.0 ** min(num_before, 10), max_s)
    return random.uniform(0, max(0.0, min(longest_s, left_s - LEAST_S)))


def watch_s(left_s: float) -> float:
    """Return how long to wait for servers that are away to say that they are ready, before trying anyway.

    Args:
        left_s: What is left of the call's time, half of which is kept for that try.
    """
    return min(random.uniform(0.5, 1) * AWAY_PAUSE_S, max(0.0, left_s / 2))


@dataclass(eq=False)
class Turn:
    """A request's turn, or its place in the line.

    Attributes:
        begun: Done once it is the request's turn.
        round: Of the pace when that was; what is refused may have met a limit that was lowered since.
        number: How many had begun by then, this one included.
    """

    begun: Future[None] = field(default_factory=Future)
    round: int = 0
    number: int = 0

    @property
    def has_begun(self) -> bool:
        """Whether the request may be sent."""
        return self.begun.done() and not self.begun.cancelled()


class Pace:
    """Turns of one client's requests to a model; threads and tasks may share it.

    There is no limit until every server has refused a request for being full. Then fewer are sent at a time:
    who waits, waits here and makes no load. The limit falls once per round trip at most, which is over when
    one that was sent since it fell is answered, or none is under way any more that was sent before; of those
    sent before, it leaves no more than are not refused as well. It rises by 1 for the first round of answers,
    and faster with each round that nothing is refused: by 2, 4, ..., up to as many as were answered. Where it
    can fall no more, only one that was refused asks again after its pause whether there is room, and all
    others wait meanwhile.

    Those whose deadline is the next to pass come first.

    Attributes:
        refusal: The last one; None: there was none, or a request that began after it was answered.
        num_in_vain: How often the limit fell since the last answer.
    """

    def __init__(self) -> None:
        self.refusal: Failure | None = None
        self.num_in_vain = 0
        self._lock = threading.Lock()
        self._limit = math.inf
        self._num_under_way = 0
        self._round = 0
        self._num_begun = 0
        self._num_begun_at_refusal = 0
        self._num_older = 0  # of those under way, sent before the limit fell
        self._num_taken = 0  # of those under way when the limit fell, not refused until now
        self._is_round_over = True
        self._num_rounds_answered = 0.0  # since the limit fell
        self._sleeper: Turn | None = None  # the last that was refused although the limit could fall no more
        self._line: list[tuple[float, int, Turn]] = []
        self._order = count()

    @property
    def limit(self) -> float:
        """How many requests may be under way at a time."""
        return self._limit

    def line_up(self, ends_at_s: float) -> Turn:
        """Return a request's place in the line, which becomes its turn; whoever gets it gives it back.

        Args:
            ends_at_s: Its deadline, on the clock of `time.monotonic`.
        """
        turn = Turn()
        with self._lock:
            if self._has_room and not self._line:
                self._begin(turn)
            else:
                heapq.heappush(self._line, (ends_at_s, next(self._order), turn))
                self._call()
        return turn

    def give_back(self, turn: Turn) -> None:
        """End a turn, or leave the line."""
        is_in_line = turn.begun.cancel()
        with self._lock:
            if not is_in_line:
                self._num_under_way -= 1
                self._num_older -= turn.round < self._round
                self._is_round_over = self._is_round_over or not self._num_older
            self._call()

    def answered(self, turn: Turn) -> None:
        """Note that there was room for a request: allow more."""
        with self._lock:
            self._is_round_over = self._is_round_over or turn.round == self._round
            self._limit += min(1.0, 2.0**self._num_rounds_answered / self._limit)
            self._num_rounds_answered += 1 / self._limit
            self.num_in_vain, self._sleeper = 0, None
            if turn.number > self._num_begun_at_refusal:
                self.refusal = None
            self._call()

    def refused(self, turn: Turn, refusal: Failure, num_servers: int) -> None:
        """Note that there was no room for a request: allow fewer, if none was told so in this round trip.

        Whoever calls this sleeps over it, and then says that it is `awake`.

        Args:
            turn: Its turn.
            refusal: The last server's.
            num_servers: How many there are, each of which may have one request all the same.
        """
        with self._lock:
            self.refusal, self._num_begun_at_refusal = refusal, self._num_begun
            if turn.round == self._round and self._is_round_over:
                self._limit = max(float(num_servers), _SLOWER * min(self._limit, self._num_under_way))
                self._round += 1
                self._num_taken = self._num_under_way - 1
                self._num_older, self._is_round_over = self._num_under_way, False
                self._num_rounds_answered = 0.0
                self.num_in_vain += 1
            elif turn.round < self._round:
                self._num_taken -= 1
                self._limit = max(float(num_servers), min(self._limit, self._num_taken))
            if self._limit <= num_servers:
                self._sleeper = turn

    def awake(self, turn: Turn) -> None:
        """Note that a request that was refused may line up again, or has given up."""
        with self._lock:
            if self._sleeper is turn:
                self._sleeper = None
                self._call()

    @property
    def _has_room(self) -> bool:
        return self._sleeper is None and self._num_under_way + 1 <= self._limit

    def _begin(self, turn: Turn) -> None:
        """Let a request begin, unless it has left the line; who holds the lock calls this."""
        if turn.begun.set_running_or_notify_cancel():
            self._num_under_way += 1
            self._num_begun += 1
            turn.round, turn.number = self._round, self._num_begun
            turn.begun.set_result(None)

    def _call(self) -> None:
        """Let those begin whose turn it is and who have time for it; who holds the lock calls this."""
        while self._line:
            ends_at_s, _, turn = self._line[0]
            is_in_time = ends_at_s - time.monotonic() >= LEAST_S
            if is_in_time and not turn.begun.cancelled() and not self._has_room:
                return
            heapq.heappop(self._line)
            if is_in_time:
                self._begin(turn)
