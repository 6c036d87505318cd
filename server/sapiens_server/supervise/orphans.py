"""Processes whose parents have died, which become children of whoever runs a container."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of what a dying server leaves, as process 1 is anyway."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def collect_orphans(server: int | None) -> None:
    """Collect children that have ended.

    Args:
        server: Process id of the child that somebody else waits for.
    """
    for listing in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread or the child is gone meanwhile
            _collect([child for child in map(int, listing.read_text().split()) if child != server])


def _collect(children: list[int]) -> None:
    for child in children:
        os.waitpid(child, os.WNOHANG)
