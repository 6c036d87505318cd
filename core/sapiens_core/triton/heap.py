"""What large images took of a model's process goes back to the system soon after.

The heap of these processes keeps its pages, whatever the size of an array: else every large one is paid in
page faults, which cost more than its copies. But after one large image it would keep hundreds of megabytes
for ever.
"""

from __future__ import annotations

import ctypes
import os
import threading

_SPARE_BYTES = 64 * 2**20  # what is kept: small images need it again and again
_DELAY_S = 5.0  # of many large images only one in so many seconds finds its pages gone
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


class Heap:
    """The heap of this process, whose level is what it has at the first look."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        self._libc = ctypes.CDLL(None)
        self._level: int | None = None
        self._is_due = threading.Lock()
        self._libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        self._libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)

    def look(self) -> None:
        """Let free pages be given back a little later, if the process has become large."""
        if self._level is None:
            self._libc.malloc_trim(0)  # what loading and warming up a model took is no part of the level
            self._level = self._num_bytes()
        if self._num_bytes() > self._level + _SPARE_BYTES and self._is_due.acquire(blocking=False):
            timer = threading.Timer(_DELAY_S, self._give_back)
            timer.daemon = True
            timer.start()

    def _give_back(self) -> None:
        self._is_due.release()
        self._libc.malloc_trim(0)

    def _num_bytes(self) -> int:
        """Return the memory that is this process's alone; regions of shared memory are not."""
        _, resident, shared = os.pread(self._statm, 128, 0).split()[:3]
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
