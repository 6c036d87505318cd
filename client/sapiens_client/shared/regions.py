"""Regions of this system's shared memory, by names that nobody can guess, readable by this user alone.

Whoever has a region locks its file. A file whose lock is free belongs to a process that was killed.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import secrets
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/dev/shm")
PREFIX = "sapiens-client-"
_PAGE_BYTES = 2**20
_NEW_S = 1.0
# Of the free memory: the server's own processes pass their tensors through the same folder.
_MAX_SHARE = 0.25
_NAME = re.compile(PREFIX + "[0-9a-f]{32}")


@dataclass(eq=False)
class Region:
    """A piece of shared memory.

    Attributes:
        name: What the system and servers call it.
        memory: Its content.
        lock: Descriptor of its file, which is locked.
    """

    name: str
    memory: mmap.mmap
    lock: int

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.memory)

    @classmethod
    def made(cls, num_bytes: int) -> Region:
        """Take memory that nobody else has.

        Raises:
            OSError: There is no such memory, or not enough.
        """
        size = -(-num_bytes // _PAGE_BYTES) * _PAGE_BYTES
        system = os.statvfs(FOLDER)
        if size > (free := system.f_bavail * system.f_frsize) * _MAX_SHARE:
            raise OSError(errno.ENOSPC, f"{size} bytes are too many for {free} free ones, which servers need")
        name = PREFIX + secrets.token_hex(16)
        lock = os.open(FOLDER / name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # who looks for orphans may have it for a moment
            os.posix_fallocate(lock, 0, size)  # else writing to it would kill the process where memory ends
            return cls(name, mmap.mmap(lock, size), lock)
        except BaseException:
            _remove(FOLDER / name, lock, os.getpid())
            raise

    def __post_init__(self) -> None:
        """Make sure that nothing is left when the process ends or nobody knows the region any more."""
        self._removed = weakref.finalize(self, _remove, FOLDER / self.name, self.lock, os.getpid())

    def remove(self) -> None:
        """Give the memory back; a server keeps it until it unregisters it."""
        self._removed()
        with suppress(BufferError):  # somebody still looks at it: then it ends with that view
            self.memory.close()


def _remove(path: Path, lock: int, owner: int) -> None:
    if os.getpid() == owner:  # and this is no copy of that process
        path.unlink(missing_ok=True)
        os.close(lock)


def remove_orphans() -> None:
    """Remove the regions of this user's processes that were killed."""
    for path in FOLDER.glob(f"{PREFIX}*"):
        # What cannot be locked has an owner, is another user's, or was removed meanwhile.
        with suppress(OSError), _locked(path):
            if time.time() - path.stat().st_mtime > _NEW_S:
                path.unlink()


def is_orphan(name: str) -> bool:
    """Return whether nobody has a region any more; not if that cannot be told.

    Args:
        name: What a server calls a region, maybe somebody else's; it need not exist here.
    """
    if not _NAME.fullmatch(name):
        return False
    try:
        with _locked(FOLDER / name):
            return True
    except FileNotFoundError:
        return True
    except OSError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a file that nobody has locked; else there is an OSError."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(file)
