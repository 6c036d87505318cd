"""Engines that this machine has built, kept so that they are built once."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from sapiens_export.repository.copies import copy_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sapiens_core.contract.engines import Runtime

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
        return self._once(self._folder / "engines" / name, export)

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
        return self._once(self._folder / "served" / _digest(names), assemble)

    def _once(self, folder: Path, make: Callable[[Path], object]) -> Path:
        """Make a folder as a whole or not at all; whoever is first of several that do is not disturbed."""
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as work:
            made = Path(work, "models")
            make(made)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
        return folder


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
