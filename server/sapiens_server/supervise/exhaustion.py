"""Whether a server has run out of shared memory for good."""

from __future__ import annotations

import shutil
import time

from sapiens_server.shared_memory import FOLDER

_GROWTH_BYTES = 2**20  # by which a Python model's region grows
_CERTAIN_AFTER_S = 5.0
_FAILING_LOOKS = 3  # one large image too many is nobody else's trouble


class Exhaustion:
    """Notices that no request is answered any more because there is no room for its tensors.

    What models' processes have there never shrinks, and canaries are too small to notice.
    """

    def __init__(self) -> None:
        self._num_answered = self._num_failures = 0.0
        self._answered_s = time.monotonic()
        self._num_failing_looks = 0

    def note(self, num_answered: float, num_failures: float) -> None:
        """Take notice of a server's counts, without canaries.

        Args:
            num_answered: Requests answered since its start.
            num_failures: Requests that failed in a backend.
        """
        if num_answered > self._num_answered or shutil.disk_usage(FOLDER).free > _GROWTH_BYTES:
            self._answered_s, self._num_failing_looks = time.monotonic(), 0
        else:
            self._num_failing_looks += num_failures > self._num_failures
        self._num_answered, self._num_failures = num_answered, num_failures

    def is_certain(self) -> bool:
        """Return whether for some time there was no room, requests failed, and none was answered."""
        is_failing = self._num_failing_looks >= _FAILING_LOOKS
        return is_failing and time.monotonic() - self._answered_s > _CERTAIN_AFTER_S
