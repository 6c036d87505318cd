"""When a server that is to end has nothing left to do."""

from __future__ import annotations

import time

from sapiens_server.supervise.api import Counts

_QUIET_S = 2.0


class Drain:
    """Decides when a drained server may end: once it is quiet, or after a limit.

    Args:
        limit_s: How long to wait for that.
    """

    def __init__(self, limit_s: float) -> None:
        self._began_s = self._moved_s = time.monotonic()
        self._limit_s = limit_s
        self._num_finished: float | None = None

    def is_over(self) -> bool:
        """Return whether nothing has come in for a while, or the limit is reached."""
        now = time.monotonic()
        return now - self._began_s >= self._limit_s or now - self._moved_s >= _QUIET_S

    def note(self, counts: Counts) -> None:
        """Take notice of what the server has counted."""
        if counts.num_pending or counts.num_finished != self._num_finished:
            self._moved_s = time.monotonic()
        self._num_finished = counts.num_finished
