"""Put folders of models into a repository so that whoever reads it sees the old ones or the new ones.

Everything is prepared in a staging folder, whose lock its process holds. A killed process keeps no lock: the
next export puts back what it was about to move, and removes its folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK_FILE = ".sapiens-export.lock"
_STAGING_LOCK_FILE = ".lock"
_JOURNAL = ".moving"  # there while models are moved: names of those that are


@contextmanager
def staging_folder(repository: Path) -> Iterator[Path]:
    """Make a folder from which a rename reaches the repository; it is removed at the end.

    It lies beside the repository, or inside where that is a volume of its own. There, a Triton server that
    starts meanwhile takes it for a broken model; `sapiens serve` leaves it out. What exports that were killed
    have left is removed.

    Args:
        repository: Folder of models; made if it is missing, and removed again if it stays empty.

    Raises:
        ValueError: Nothing can be written there.
    """
    repository = Path(os.path.realpath(repository))
    is_new = not repository.exists()
    with ExitStack() as held:
        try:
            repository.mkdir(parents=True, exist_ok=True)
            with locked(repository):
                sweep(repository)
                folder = _staging_beside(repository) or _temporary(repository, repository)
                lock = held.enter_context(Path(folder.name, _STAGING_LOCK_FILE).open("a"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise ValueError(
                f"repository must be a folder that can be written to, {repository} is not: {error}; "
                "give another one"
            ) from error
        try:
            yield Path(folder.name)
        finally:
            with locked(repository):  # lest a sweep take what is still there for a dead process's
                folder.cleanup()
            if is_new:
                with suppress(OSError):  # models are in it
                    repository.rmdir()


def sweep(repository: Path) -> None:
    """Remove the staging folders of dead processes, once the models that they had begun to move are back.

    Args:
        repository: Folder of models that is `locked`, so that no folder is without its lock for being new.
    """
    named = re.compile(rf"\.{re.escape(repository.name)}-export-[a-z0-9_]{{8}}")
    for folder in (path for path in _around(repository) if named.fullmatch(path.name)):
        # A journal that cannot be read leaves its folder alone: it may hold the only copy of a model.
        with suppress(OSError, ValueError), (folder / _STAGING_LOCK_FILE).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _recover(folder, repository)
            shutil.rmtree(folder, ignore_errors=True)


def _around(repository: Path) -> list[Path]:
    beside: list[Path] = []
    with suppress(OSError):  # a parent that may not be listed has none of ours
        beside = list(repository.parent.iterdir())
    return beside + list(repository.iterdir())


def _recover(staging: Path, repository: Path) -> None:
    if (staging / _JOURNAL).is_file():
        for name in json.loads((staging / _JOURNAL).read_text()):
            _put_back(name, staging, repository)
        (
            staging / _JOURNAL
        ).unlink()  # before anything else goes: without its folders it would mean a finished move


def _staging_beside(repository: Path) -> tempfile.TemporaryDirectory[str] | None:
    """Make a folder beside the repository; None: files cannot be renamed from there into the repository."""
    try:
        folder = _temporary(repository.parent, repository)
    except OSError:
        return None
    probe = Path(folder.name, "probe")
    probe.touch()
    try:
        probe.rename(repository / Path(folder.name).name).unlink()
    except OSError:  # a mount point; device numbers do not tell, as a folder may be mounted to its own disk
        folder.cleanup()
        return None
    return folder


def _temporary(parent: Path, repository: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=parent, prefix=f".{repository.name}-export-")


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
    """
    journal = staging / _JOURNAL
    unfinished = staging / f"{_JOURNAL}-unfinished"
    unfinished.write_text(json.dumps(names))
    unfinished.rename(journal)
    try:
        for name in names:
            if os.path.lexists(repository / name):
                (repository / name).rename(staging / f"{name}.old")
            (staging / name).rename(repository / name)
    except BaseException:
        _recover(staging, repository)
        raise
    journal.unlink()


def _put_back(name: str, staging: Path, repository: Path) -> None:
    """Undo a model's move, as far as it got."""
    old = staging / f"{name}.old"
    if not (staging / name).exists():
        (repository / name).rename(staging / name)
    if os.path.lexists(old):
        old.rename(repository / name)
