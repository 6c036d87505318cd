"""Put folders of models into a repository so that whoever reads it sees the old ones or the new ones."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK_FILE = ".sapiens-export.lock"


@contextmanager
def staging_folder(repository: Path) -> Iterator[Path]:
    """Make a folder from which a rename reaches the repository; it is removed at the end.

    It lies beside the repository, or inside where that is a volume of its own. There, a Triton server that
    starts meanwhile takes it for a broken model.

    Args:
        repository: Folder of models; made if it is missing, and removed again if it stays empty.

    Raises:
        ValueError: Nothing can be written there.
    """
    repository = Path(os.path.realpath(repository))
    is_new = not repository.exists()
    try:
        repository.mkdir(parents=True, exist_ok=True)
        folder = _staging_beside(repository) or _temporary(repository, repository)
    except OSError as error:
        raise ValueError(
            f"repository must be a folder that can be written to, {repository} is not: {error}; "
            "give another one"
        ) from error
    try:
        with folder as name:
            yield Path(name)
    finally:
        if is_new:
            with suppress(OSError):  # models are in it
                repository.rmdir()


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
    return tempfile.TemporaryDirectory(dir=parent, prefix=f".{repository.name}-")


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
    begun: list[str] = []
    try:
        for name in names:
            begun.append(name)
            if os.path.lexists(repository / name):
                (repository / name).rename(staging / f"{name}.old")
            (staging / name).rename(repository / name)
    except BaseException:
        for name in begun:
            _put_back(name, staging, repository)
        raise


def _put_back(name: str, staging: Path, repository: Path) -> None:
    old = staging / f"{name}.old"
    if not (staging / name).exists():
        (repository / name).rename(staging / name)
    if os.path.lexists(old):
        old.rename(repository / name)
