"""Whether a server that loads its models gets on: large engines take minutes, and say nothing meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path

_LOOK_EVERY_S = 5.0
_LOOKS_PER_TIMEOUT = 3
_WORKING_SHARE = 0.05  # of a processor; processes that only wait for others take less
_GROUP, _USER_TICKS, _SYSTEM_TICKS = 2, 11, 12  # fields of /proc/PID/stat from the state on
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Loading:
    """Notices when a server neither writes into its log nor works.

    Args:
        group: Id of the process group of tritonserver and its models.
        timeout_s: How long that is nothing to worry about.
    """

    def __init__(self, group: int, timeout_s: float) -> None:
        self._group = str(group)
        self._timeout_s = timeout_s
        self._look_every_s = min(_LOOK_EVERY_S, timeout_s / _LOOKS_PER_TIMEOUT)
        self._moved_s = self._looked_s = time.monotonic()
        self._work_s = 0.0
        self._num_lines = 0

    def has_stalled(self, num_lines: int) -> bool:
        """Return whether nothing has moved for too long.

        Args:
            num_lines: How many lines the server has written.
        """
        now = time.monotonic()
        if num_lines != self._num_lines:
            self._num_lines, self._moved_s = num_lines, now
        if (elapsed_s := now - self._looked_s) > self._look_every_s:
            work_s = _work_s(self._group)
            if work_s - self._work_s > _WORKING_SHARE * elapsed_s:
                self._moved_s = now
            self._work_s, self._looked_s = work_s, now
        return now - self._moved_s >= self._timeout_s


def _work_s(group: str) -> float:
    """Return the processor time of the living processes of a group, seconds."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text(errors="replace").rpartition(") ")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if fields[_GROUP] == group:
            ticks += int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    return ticks / _TICKS_PER_S
