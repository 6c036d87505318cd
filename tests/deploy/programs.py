"""Programs of the distribution that the tests need, installed where that may be done."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path


def say(text: str) -> None:
    """Tell whoever waits; pytest keeps back what tests say."""
    print(f"test-deploy: {text}", file=sys.__stderr__, flush=True)


@functools.cache
def lacking(programs: tuple[str, ...], packages: tuple[str, ...]) -> str:
    """Install Debian's packages if programs are missing; return why they still are, empty: none is."""
    if not _missing(programs):
        return ""
    if os.geteuid() or shutil.which("apt-get") is None:
        return f"not on PATH: {_missing(programs)}; install Debian's packages {', '.join(packages)}"
    say(f"installing {', '.join(packages)}")
    update, install = (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends"],
    )
    refusal = ""
    for words in (update, install):
        done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        refusal = (done.stderr.strip().splitlines() or [refusal])[-1] if done.returncode else refusal
    missing = _missing(programs)
    return missing and f"apt-get does not install {missing}: {refusal}"


def _missing(programs: tuple[str, ...]) -> str:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    return ", ".join(program for program in programs if shutil.which(Path(program), path=path) is None)
