"""Put folders of models into a repository so that whoever reads it sees the old ones or the new ones.

Everything is prepared in a staging folder, whose lock its process holds. A killed process keeps no lock: the
next export puts back what it was about to move, and removes its folder. A folder with a journal may hold the
only copy of a model, and nobody removes it. So that this holds for a power cut too, what a step relies on is
on the disk before the step.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sapiens_core.contract.folders import MOVES_FILE, staging_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK_FILE = ".sapiens-export.lock"
_STAGING_LOCK_FILE = ".lock"


@contextmanager
def staging_folder(repository: Path) -> Iterator[Path]:
    """Make a folder from which a rename reaches the repository; it is removed at the end.

    It lies beside the repository, or inside where that is a volume of its own. There, a Triton server that
    starts meanwhile takes it for a broken model; `sapiens serve` leaves it out. What exports that were killed
    have left is removed. It stays only where `move_in` could not put models back.

    Args:
        repository: Folder of models; made if it is missing, and removed again if it stays empty.

    Raises:
        ValueError: Nothing can be written there.
    """
    repository = Path(os.path.realpath(repository))
    is_new = not repository.exists()
    with ExitStack() as held:
        folder = _prepared(repository, held)
        try:
            yield folder
        finally:
            _leave(folder, repository)
            if is_new:
                _remove_if_empty(repository)


def _prepared(repository: Path, held: ExitStack) -> Path:
    """Make a staging folder, whose lock is held; the repository is made too, and swept."""
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with locked(repository):
            sweep(repository)
            folder = _staging_beside(repository) or _temporary(repository, repository)
            lock = held.enter_context((folder / _STAGING_LOCK_FILE).open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise ValueError(
            f"repository must be a folder that can be written to, {repository} is not: {error}; "
            "give another one"
        ) from error
    return folder


def _leave(folder: Path, repository: Path) -> None:
    with locked(repository):  # lest a sweep take what is still there for a dead process's
        if not (folder / MOVES_FILE).exists():
            shutil.rmtree(folder)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # models are in it
        folder.rmdir()


def sweep(repository: Path) -> None:
    """Remove the staging folders of dead processes, once the models that they had begun to move are back.

    Args:
        repository: Folder of models that is `locked`, so that no folder is without its lock for being new.
    """
    for folder in staging_folders(repository):
        # A journal that cannot be read leaves its folder alone: `unfinished_moves` names it.
        with suppress(OSError, ValueError), (folder / _STAGING_LOCK_FILE).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _recover(folder, repository)
            shutil.rmtree(folder, ignore_errors=True)


def _recover(staging: Path, repository: Path) -> None:
    if (staging / MOVES_FILE).is_file():
        for name in json.loads((staging / MOVES_FILE).read_text()):
            _put_back(name, staging, repository)
        _end_moves(staging, repository)


def _end_moves(staging: Path, repository: Path) -> None:
    """Forget what was to be moved, before the folders go: without them it would mean a finished move."""
    _sync(staging)
    _sync(repository)
    (staging / MOVES_FILE).unlink()
    _sync(staging)


def _staging_beside(repository: Path) -> Path | None:
    """Make a folder beside the repository; None: files cannot be renamed from there into the repository."""
    try:
        folder = _temporary(repository.parent, repository)
    except OSError:
        return None
    probe = folder / "probe"
    probe.touch()
    try:
        probe.rename(repository / folder.name).unlink()
    except OSError:  # a mount point; device numbers do not tell, as a folder may be mounted to its own disk
        shutil.rmtree(folder)
        return None
    return folder


def _temporary(parent: Path, repository: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=parent, prefix=f".{repository.name}-export-"))


@contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Keep other exports out of a repository, waiting until they have left it.

    Args:
        repository: Folder of models, which exists.
    """
    path = repository / _LOCK_FILE
    while True:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_file_at(path, file.fileno()):  # whoever held it before has removed it
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_file_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def move_in(names: list[str], staging: Path, repository: Path) -> None:
    """Put the new folders of models in place of the old ones, all or none.

    Args:
        names: The models.
        staging: A `staging_folder` with their new folders; keeps the old ones.
        repository: Folder of models.

    Raises:
        OSError: A folder cannot be moved; the old ones are back.
        ValueError: Nor can the old ones be put back; the staging folder has them.
    """
    for name in names:
        _sync_all(staging / name)
    journal = staging / MOVES_FILE
    unfinished = staging / f"{MOVES_FILE}-unfinished"
    unfinished.write_text(json.dumps(names))
    _sync(unfinished)
    unfinished.rename(journal)
    _sync(staging)
    try:
        for name in names:
            if os.path.lexists(repository / name):
                (repository / name).rename(staging / f"{name}.old")
            (staging / name).rename(repository / name)
        _end_moves(staging, repository)
    except BaseException:
        _put_all_back(staging, repository)
        raise


def _put_all_back(staging: Path, repository: Path) -> None:
    try:
        _recover(staging, repository)
    except OSError as error:
        raise ValueError(
            f"models must be put back into {repository} where an export fails, got {error}; they are kept in "
            f"{staging}, under their names and .old: the next export into the repository tries again"
        ) from error


def _put_back(name: str, staging: Path, repository: Path) -> None:
    """Undo a model's move, as far as it got."""
    old = staging / f"{name}.old"
    if not (staging / name).exists():
        (repository / name).rename(staging / name)
    if os.path.lexists(old):
        old.rename(repository / name)


def _sync_all(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # from file systems that have no such thing for folders
            raise
    finally:
        os.close(descriptor)
