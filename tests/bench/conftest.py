from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """A function (script, options) -> its process, which must not leave processes or shared memory behind."""
    folder = tmp_path_factory.mktemp("bench")

    def started(script: str, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, BENCH / script, *options],
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    yield started
    assert processes_with(folder) == []
    assert locks_of(folder) == []
    assert list(folder.iterdir()) == []


def processes_with(folder: Path) -> list[int]:
    """Return the ids of processes that have this folder for temporary files."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
        except OSError:  # ended, or of another user
            continue
        if f"TMPDIR={folder}".encode() in variables:
            pids.append(int(path.parent.name))
    return pids


def locks_of(folder: Path) -> list[Path]:
    """Return the lock files of servers that have this folder for temporary files."""
    locks = []
    for lock in Path("/dev/shm").glob("sapiens_server_*_lock"):
        with suppress(FileNotFoundError):  # another test's, which has ended
            if lock.read_text() == str(folder):
                locks.append(lock)
    return locks


@pytest.fixture(scope="session")
def figures() -> Callable[[subprocess.Popen[str]], dict[str, str]]:
    """A function (process) -> what it measured when it ended, by "check: figure" or the figure's name."""

    def read(process: subprocess.Popen[str]) -> dict[str, str]:
        out, words = process.communicate(timeout=600)
        assert "Traceback" not in words, words
        assert process.returncode == ("MISSED" in out), out + words
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]
        return {": ".join(row[:-3]): row[-2] for row in rows if row}

    return read
