"""Programs of the distribution that the tests need, installed where that may be done."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

PATIENCE_S = 300.0  # of a machine with much else to do
_TRIES = 2  # networks fail for a moment


def say(text: str) -> None:
    """Tell whoever waits; pytest keeps back what tests say."""
    print(f"test-deploy: {text}", file=sys.__stderr__, flush=True)


@functools.cache
def lacking(programs: tuple[str, ...], packages: tuple[str, ...]) -> str:
    """Install Debian's packages if programs or files are missing; return why they still are, empty: no."""
    if not _missing(programs):
        return ""
    if os.geteuid() or shutil.which("apt-get") is None:
        return f"not there: {_missing(programs)}; install Debian's packages {', '.join(packages)}"
    say(f"installing {', '.join(packages)}")
    apt_get = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3")
    told: list[str] = []
    for _ in range(_TRIES):
        told += [
            _told(*apt_get, "update"),  # which fails for a single source that cannot be reached, too
            _told(*apt_get, "install", "--yes", "--no-install-recommends", *packages),
        ]
        if not _missing(programs):
            return ""
    return f"apt-get does not install {_missing(programs)}: {'; '.join(told)}"


def _told(*words: str) -> str:
    """Run a command; return how it ended and what it said last."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return f"not over after {PATIENCE_S:g} s"
    return f"exit status {done.returncode}, {' '.join(done.stdout.split()[-40:]) or 'nothing said'}"


def _missing(programs: tuple[str, ...]) -> str:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    return ", ".join(
        each for each in programs if not Path("/", each).is_file() and not shutil.which(each, path=path)
    )
