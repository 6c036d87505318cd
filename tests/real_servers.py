"""Real servers, their processes and their files."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapiens_server import RunningServer, serve

LONG_S = 60.0  # beyond any pause of a busy machine


@contextmanager
def running(*about: Any, **options: Any) -> Iterator[RunningServer]:
    """`serve`, whose server is killed at the end: it leaves nothing, and takes no two seconds for its end."""
    with serve(*about, **options) as server:
        try:
            yield server
        finally:
            server.kill()


def prefix_of(pid: int) -> str:
    """What everything begins with that this server leaves."""
    found = re.search(r"shm-region-prefix-name=(\w+)", Path(f"/proc/{pid}/cmdline").read_text())
    return found[1] if found else ""


def files_of(prefix: str) -> list[Path]:
    folders = (Path("/dev/shm"), Path(tempfile.gettempdir()))
    return [path for folder in folders for path in sorted(folder.glob(f"{prefix}*"))]


@dataclass(frozen=True)
class Status:
    state: str
    parent: int
    group: int


def statuses() -> Iterator[tuple[int, Status]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, group = stat.read_text(errors="replace").rpartition(") ")[2].split()[:3]
            yield int(stat.parent.name), Status(state, int(parent), int(group))


def processes_of(group: int) -> list[int]:
    """Process ids of a process group, without those that only wait to be collected."""
    return [pid for pid, status in statuses() if status.group == group and status.state != "Z"]


def states_of_threads(pid: int) -> list[str]:
    """States of the threads of a process, such as "T" for stopped."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return [stat.rpartition(")")[2].split()[0] for stat in stats]


def becomes_true(condition: Callable[[], object], timeout_s: float = LONG_S) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def kill_all_but_one(group: int) -> int:
    """Kill a server, but not its model's process, which is stopped; return its id.

    What the dead left is kept as long as it lives, also from the sweeps of other tests' servers.
    """
    (stub,) = set(processes_of(group)) - {group}
    os.kill(stub, signal.SIGSTOP)
    os.kill(group, signal.SIGKILL)
    assert becomes_true(lambda: processes_of(group) == [stub])
    return stub
