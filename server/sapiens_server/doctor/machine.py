"""What the kernel tells about this machine and the container around this process."""

from __future__ import annotations

import re
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_NO_LIMIT_BYTES = 2**60  # version 1 of control groups writes a number of that kind


def memory_limit(cgroup: Path = _CGROUP) -> int | None:
    """Return how much memory the control group may take, bytes; None: as much as there is."""
    text = _text(cgroup / "memory.max") or _text(cgroup / "memory" / "memory.limit_in_bytes")
    limit = int(text) if text.isdecimal() else _NO_LIMIT_BYTES
    return limit if limit < _NO_LIMIT_BYTES else None


def memory_bytes(name: str, proc: Path = _PROC) -> int:
    """Return an entry of /proc/meminfo, such as "MemAvailable", bytes; 0 where there is none."""
    found = re.search(rf"^{name}: +(\d+) kB", _text(proc / "meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def max_open_files(proc: Path = _PROC) -> int | None:
    """Return how many files this process may open; None: any number."""
    found = re.search(r"^Max open files +(\d+)", _text(proc / "self" / "limits"), re.MULTILINE)
    return int(found[1]) if found else None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
