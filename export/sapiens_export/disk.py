"""Room on the disk for what an export writes: looked at before the work, and said when it was too little."""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.filesize import decimal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ELSEWHERE = "export to another disk"


class DiskFullError(OSError):
    """A disk has not enough room; the message says how much is needed, and how much there is."""


def check_room(folder: Path, needed: int) -> None:
    """Refuse before the work what would not fit.

    Args:
        folder: Where it is to be written, or would be made.
        needed: About how many bytes.

    Raises:
        DiskFullError: There is less room.
    """
    if _free_bytes(folder) < needed:
        raise _too_little(folder, needed, _ELSEWHERE)


@contextmanager
def told_if_full(folder: Path, needed: int, advice: str = _ELSEWHERE) -> Iterator[None]:
    """Say how much room is needed where writing failed for want of it.

    Args:
        folder: Where it is written.
        needed: About how many bytes in all.
        advice: What to do but to free some.

    Raises:
        DiskFullError: Writing failed for that.
    """
    try:
        yield
    except OSError as error:
        # numpy's errors have no number, but it fails at half-written arrays for nothing else.
        is_full = error.errno in _FULL or (error.errno is None and "written" in str(error))
        if not is_full:
            raise
        raise _too_little(folder, needed, advice) from error


def room(folder: Path, needed: int) -> str:
    """Return in words how much is needed and how much there is."""
    return f"about {decimal(needed)} needed, {decimal(_free_bytes(folder))} free"


def existing(folder: Path) -> Path:
    """Return the folder, or the one that it would be made in."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(existing(folder)).free


def _too_little(folder: Path, needed: int, advice: str) -> DiskFullError:
    return DiskFullError(
        f"the disk of {folder} must have room for what is written, got {room(folder, needed)}, of which "
        f"a quota may allow less; free some, or {advice}"
    )
