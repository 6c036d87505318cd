"""How much of this machine a process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def num_processors(cgroup: Path = _CGROUP) -> float:
    """Return how many processors this process may use, as far as affinity and its control group say."""
    usable = float(len(os.sched_getaffinity(0)))
    quota, _, period = (_text(cgroup / "cpu.max") or "max").partition(" ")
    if quota == "max":
        quota = _text(cgroup / "cpu" / "cpu.cfs_quota_us") or "-1"
        period = _text(cgroup / "cpu" / "cpu.cfs_period_us")
    return min(usable, int(quota) / int(period)) if int(quota) > 0 and period else usable


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
