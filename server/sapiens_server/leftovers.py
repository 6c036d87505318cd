"""What a server leaves on the machine, and when it may be removed.

Each server runs under a name of its own, with which its shared-memory regions, its private folder and one
lock file begin; the lock file says where the folder is, for sweeps with another TMPDIR. The server and its
Python processes inherit the lock: it is free exactly when all of them are dead, however they died, and
whoever finds it free may remove everything of that name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")
_FAMILY = "sapiens_server_"
_LOCK_SUFFIX = "_lock"
_MAX_PATH_BYTES = 4096
_POLL_S = 0.02


@dataclass(frozen=True)
class Claim:
    """The name under which one server runs.

    Attributes:
        prefix: What the names of its regions begin with.
        folder: Its private folder.
        lock: Path of its lock file.
        lock_fd: Descriptor that holds the lock; the server must inherit it.
    """

    prefix: str
    folder: Path
    lock: Path
    lock_fd: int


@contextmanager
def claimed_name() -> Iterator[Claim]:
    """Claim a new name; start the server that inherits the lock within the `with` block.

    At the end of the block the name is the server's alone; if none was started, nothing remains.
    """
    lock_fd, lock = _new_lock()
    try:
        prefix = f"{lock.name.removesuffix(_LOCK_SUFFIX)}_"
        parent = tempfile.gettempdir()
        os.write(lock_fd, os.fsencode(parent))  # before the folder is there, lest nobody find it
        yield Claim(prefix, Path(tempfile.mkdtemp(prefix=prefix, dir=parent)), lock, lock_fd)
    finally:
        os.close(lock_fd)
        _remove_if_dead(lock)


def hide_regions(prefix: str) -> None:
    """Let nobody but this user read what a server has in shared memory, images among it.

    Triton makes its regions readable by everybody, whatever the umask; they are empty then.

    Args:
        prefix: What their names begin with.
    """
    for region in _SHARED_MEMORY.glob(f"{prefix}*"):
        with suppress(FileNotFoundError, PermissionError):  # it is gone meanwhile, or another user's
            region.chmod(0o600)


def sweep() -> None:
    """Remove what dead servers of this user left behind; live ones keep theirs."""
    for lock in _SHARED_MEMORY.glob(f"{_FAMILY}*{_LOCK_SUFFIX}"):
        _remove_if_dead(lock)


def num_dead_servers() -> int:
    """Return of how many dead servers of this user something is left."""
    return sum(map(_is_dead, _SHARED_MEMORY.glob(f"{_FAMILY}*{_LOCK_SUFFIX}")))


def remove_when_dead(claim: Claim, *, timeout_s: float) -> None:
    """Remove everything of a server that was killed, as soon as its last process is gone.

    If a process outlives the timeout, all is kept until a later `sweep`.
    """
    deadline = time.monotonic() + timeout_s
    while not _remove_if_dead(claim.lock) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _new_lock() -> tuple[int, Path]:
    while True:
        lock_fd, name = tempfile.mkstemp(_LOCK_SUFFIX, _FAMILY, _SHARED_MEMORY)
        # Before it is locked, somebody's sweep may take it for a dead server's: then lock another one.
        if _lock(lock_fd) and os.fstat(lock_fd).st_nlink == 1:
            return lock_fd, Path(name)
        os.close(lock_fd)


def _parent_of_folder(lock_fd: int) -> Path:
    """Return where the private folder is; a lock file that does not say so is of an earlier release."""
    written = os.pread(lock_fd, _MAX_PATH_BYTES, 0)
    return Path(os.fsdecode(written) if written else tempfile.gettempdir())


def _lock(descriptor: int) -> bool:
    import fcntl  # not on Windows, where the rest of the command line works

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_dead(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False  # gone meanwhile, or another user's
    try:
        return os.fstat(descriptor).st_uid == os.geteuid() and _lock(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_dead(lock: Path) -> bool:
    """Remove a dead server's files, the lock last; return whether none are left."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # another user's
    try:
        if os.fstat(descriptor).st_uid != os.geteuid() or not _lock(descriptor):
            return False
        everything = f"{lock.name.removesuffix(_LOCK_SUFFIX)}_*"
        for folder in _parent_of_folder(descriptor).glob(everything):
            shutil.rmtree(folder, ignore_errors=True)
        for region in set(_SHARED_MEMORY.glob(everything)) - {lock}:
            region.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return True
