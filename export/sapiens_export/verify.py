"""Compare the engines of a repository with their float32 networks again, on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapiens_core.tasks import ENGINE_FILES
from sapiens_core.tolerances import limits
from sapiens_export.checkpoints import file_sha256
from sapiens_export.engines import default_device, device_name, engine_from_file
from sapiens_export.parity import REFERENCE_FILE, ParityReport, Reference, parity
from sapiens_export.repository import (
    MANIFEST_FILE,
    VERSION_FOLDER,
    InstalledEngine,
    installed_engine,
    read_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Verification:
    """What came of comparing one engine.

    Attributes:
        model: Its name in the repository.
        runtime: What runs it; empty: its manifest does not tell.
        precision: What it computes in; likewise.
        report: How far it is from the float32 network; None: it could not be compared.
        problem: Why not, or what is wrong with it; empty: nothing is.
    """

    model: str
    runtime: str = ""
    precision: str = ""
    report: ParityReport | None = None
    problem: str = ""

    @property
    def is_passed(self) -> bool:
        """It was compared, and is as close as it must be."""
        return self.report is not None and self.report.is_passed and not self.problem

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        report = self.report.to_json() if self.report else None
        return {**vars(self), "report": report, "is_passed": self.is_passed}


def engine_folders(repository: Path) -> list[Path]:
    """Return the folders of a repository's engines, but for the built-in detector's, which is no network.

    Raises:
        ValueError: There is none.
    """
    manifests = sorted(repository.glob(f"*/{MANIFEST_FILE}"))
    folders = [path.parent for path in manifests if not (path.parent / VERSION_FOLDER / "hog.py").is_file()]
    if not folders:
        raise ValueError(
            f"{repository} must have engines that `sapiens export` wrote from networks, got none; give the "
            "folder of a model repository"
        )
    return folders


def verifications(folders: list[Path], device: str | None) -> Iterator[Verification]:
    """Compare engines one after the other; what is wrong with one is told, and the others go on.

    Args:
        folders: Of `engine_folders`.
        device: "cpu" or "cuda"; None: where the engines run best on this machine.
    """
    for folder in folders:
        outcome = Verification(folder.name)
        try:
            engine = installed_engine(folder)
            outcome = replace(outcome, runtime=engine.info.runtime, precision=engine.info.precision)
            yield replace(outcome, report=_report(folder, engine, device), problem=_changes(folder))
        except (ValueError, OSError, RuntimeError) as error:  # torch raises RuntimeErrors for broken engines
            yield replace(outcome, problem=f"{folder.name} cannot be compared: {error}")


def _report(folder: Path, engine: InstalledEngine, device: str | None) -> ParityReport:
    config, info = engine.config, engine.info
    device = device or default_device(info.runtime)
    return parity(
        engine_from_file(info.runtime, folder / VERSION_FOLDER / ENGINE_FILES[info.runtime], device),
        Reference.load(folder / REFERENCE_FILE, config.task, config.output_hw),
        limits(config.task, info.precision, untrained=info.untrained),
        device=device_name(device),
        max_batch_size=engine.serving.max_batch_size,
    )


def _changes(folder: Path) -> str:
    """Say which of an engine's files are not those that were exported."""
    exported = read_manifest(folder).get("engine_sha256")
    if not isinstance(exported, dict):
        return "the manifest tells no hashes of the engine's files; export it again"
    version = folder / VERSION_FOLDER
    changed = [
        name
        for name, sha256 in exported.items()
        if not (version / name).is_file() or file_sha256(version / name) != sha256
    ]
    if not changed:
        return ""
    return f"{', '.join(changed)} in {version} must be as exported; export the engine again"
