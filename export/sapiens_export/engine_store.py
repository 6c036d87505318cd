"""Engines that this machine has built, kept so that they are built once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from sapiens_export.repository.copies import copy_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sapiens_core.contract.engines import Runtime

_ENGINES, _SERVED = _ROOMS = "engines", "served"
_NEW, _LOCK = ".new-", ".lock"
_LIBRARIES = ("torch", "tensorrt", "tensorrt-cu13-bindings", "tensorrt-cu12-bindings")


@dataclass(frozen=True)
class Machine:
    """What an engine is built for; another machine, or this one after an update, needs another engine.

    Attributes:
        runtime: What runs the engines.
        gpus: Names and compute capabilities of the GPUs; none: engines run on the CPU.
        driver: Version of the GPUs' driver; empty: there is none.
        libraries: Versions of what builds and runs engines.
        sapiens: Version of this project.
    """

    runtime: Runtime
    gpus: tuple[str, ...]
    driver: str
    libraries: tuple[str, ...]
    sapiens: str


def libraries() -> tuple[str, ...]:
    """Return the versions of the libraries on this machine that an engine depends on."""
    return tuple(f"{name} {found}" for name in _LIBRARIES if (found := _version(name)))


class EngineStore:
    """A folder with engines by what they were built from and for, and repositories that serve several.

    Args:
        folder: Where; made if it is missing.
        machine: What engines are built for.
    """

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.machine = machine
        self._folder = folder

    def engine(self, task: str, size: str, sha256: str, export: Callable[[Path], object]) -> Path:
        """Return the repository of one network, exported unless it is there.

        Args:
            task: What the network predicts.
            size: Its size.
            sha256: Hash of its weight file.
            export: Exports it into the folder that it is given, or raises.
        """
        name = f"{task}-{size}-{_digest({**asdict(self.machine), 'checkpoint': sha256})}"
        return self._once(self._folder / _ENGINES / name, export)

    def repository(self, engines: Sequence[Path]) -> Path:
        """Return the repository that serves several networks, made of theirs unless it is there.

        Args:
            engines: What `engine` returned.
        """

        def assemble(repository: Path) -> None:
            for engine in engines:
                for manifest in sorted(engine.glob("*/manifest.json")):
                    copy_engine(manifest.parent, repository)

        names = [engine.name for engine in engines]
        return self._once(self._folder / _SERVED / _digest(names), assemble)

    @contextmanager
    def held(self, *folders: Path) -> Iterator[None]:
        """Keep others from pruning what is used, also while a program runs that this process becomes.

        Args:
            folders: What `engine` and `repository` returned.
        """
        with ExitStack() as locks:
            for folder in folders:
                with suppress(OSError):  # of a cache that may only be read, nothing can be locked
                    os.set_inheritable(locks.enter_context(_locked(folder, fcntl.LOCK_SH)), True)
            yield

    def pruned(self, *used: Path) -> list[Path]:
        """Remove all engines and repositories but these, and but those that others hold.

        Args:
            used: What `engine` and `repository` returned.

        Returns:
            What was removed.
        """
        found = [path for room in _ROOMS for path in sorted((self._folder / room).glob("[!.]*"))]
        return [path for path in found if path not in used and _removed(path)]

    def _once(self, folder: Path, make: Callable[[Path], object]) -> Path:
        """Make a folder as a whole or not at all; whoever is first of several that do is not disturbed."""
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _work_folder(folder.parent) as work:
            made = work / "models"
            make(made)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
        return folder


@contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    """Make a folder that is removed at the end; those of processes that were killed are removed now."""
    for left in parent.glob(f"{_NEW}*"):
        _removed(left)
    with ExitStack() as held:
        while True:
            work = Path(tempfile.mkdtemp(dir=parent, prefix=_NEW))
            with suppress(FileNotFoundError, BlockingIOError):  # taken for a dead process's: then another
                held.enter_context(_locked(work, fcntl.LOCK_EX | fcntl.LOCK_NB))
                break
        held.callback(shutil.rmtree, work)
        yield work


def _removed(folder: Path) -> bool:
    """Remove a folder unless somebody has locked it; return whether it is gone."""
    with suppress(OSError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@contextmanager
def _locked(folder: Path, operation: int) -> Iterator[int]:
    """Lock a folder by a file in it.

    Raises:
        FileNotFoundError: It is gone.
        BlockingIOError: Others hold it, and the operation does not wait.
    """
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, operation)
        if os.fstat(descriptor).st_nlink == 0:
            raise FileNotFoundError(f"{folder} must be there, and was removed")
        yield descriptor
    finally:
        os.close(descriptor)


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
