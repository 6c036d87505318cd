"""SIGINT and SIGTERM: the first asks for an end, the second wants it at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SAME_SIGNAL_S = 1.0


class Signals:
    """Takes both signals from now on; belongs to the main thread.

    Attributes:
        numbers: The signals that came. Programs that run others, such as `timeout`, may deliver one twice,
            which counts once.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._last_s = 0.0
        self._is_raising = False
        signal.signal(signal.SIGINT, self._take)
        signal.signal(signal.SIGTERM, self._take)

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Let the first signal interrupt the `with` block; the second interrupts whatever goes on.

        Raises:
            KeyboardInterrupt: A signal came, before the block or within.
        """
        if self.numbers:
            raise KeyboardInterrupt
        self._is_raising = True
        try:
            yield
        finally:
            self._is_raising = False

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.numbers and time.monotonic() - self._last_s < _SAME_SIGNAL_S:
            return
        self._last_s = time.monotonic()
        self.numbers.append(number)
        if self._is_raising or len(self.numbers) > 1:
            raise KeyboardInterrupt
