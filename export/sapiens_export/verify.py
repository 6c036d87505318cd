"""Compare the engines of a repository with their float32 networks again, on this machine."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapiens_core.tasks import ENGINE_FILES, HOG_FAMILY
from sapiens_core.tolerances import limits
from sapiens_export.checkpoints import file_sha256
from sapiens_export.engines import device_name, engine_from_file
from sapiens_export.parity import REFERENCE_FILE, ParityReport, Reference, parity
from sapiens_export.repository import MANIFEST_FILE, VERSION_FOLDER, InstalledEngine, installed_engine

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Verification:
    """What came of comparing one engine.

    Attributes:
        model: Its name in the repository.
        runtime: What runs it.
        precision: What it computes in.
        report: How far it is from the float32 network; None: it could not be compared.
        problem: Why not, or what is wrong with it; empty: nothing is.
    """

    model: str
    runtime: str
    precision: str
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
    """Return the folders of a repository's engines that came from a network.

    Raises:
        ValueError: There is none.
    """
    manifests = sorted(repository.glob(f"*/{MANIFEST_FILE}"))
    folders = [path.parent for path in manifests if json.loads(path.read_text())["family"] != HOG_FAMILY]
    if not folders:
        raise ValueError(
            f"{repository} must have engines that `sapiens export` wrote from networks, got none; give the "
            "folder of a model repository"
        )
    return folders


def verifications(folders: list[Path], device: str) -> Iterator[Verification]:
    """Compare engines one after the other.

    Args:
        folders: Of `engine_folders`.
        device: "cpu" or "cuda".
    """
    for folder in folders:
        engine = installed_engine(folder)
        outcome = Verification(folder.name, engine.info.runtime, engine.info.precision)
        try:
            yield replace(outcome, report=_report(folder, engine, device), problem=_changes(folder, engine))
        except (ValueError, OSError, RuntimeError) as error:  # torch raises RuntimeErrors for broken engines
            yield replace(outcome, problem=f"{_engine_file(folder, engine)} cannot be compared: {error}")


def _report(folder: Path, engine: InstalledEngine, device: str) -> ParityReport:
    config, info = engine.config, engine.info
    return parity(
        engine_from_file(info.runtime, _engine_file(folder, engine), device),
        Reference.load(folder / REFERENCE_FILE, config.task, config.output_hw),
        limits(config.task, info.precision, untrained=info.untrained),
        device=device_name(device),
        max_batch_size=engine.serving.max_batch_size,
    )


def _changes(folder: Path, engine: InstalledEngine) -> str:
    path = _engine_file(folder, engine)
    exported: str = json.loads((folder / MANIFEST_FILE).read_text())["engine_sha256"]
    if file_sha256(path) == exported:
        return ""
    return f"{path} is not the file that was exported; export it again"


def _engine_file(folder: Path, engine: InstalledEngine) -> Path:
    return folder / VERSION_FOLDER / ENGINE_FILES[engine.info.runtime]
