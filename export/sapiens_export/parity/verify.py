"""Compare the engines of a repository with their float32 networks again, on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.folders import CONFIG_FILE, missing_modules, model_folders
from sapiens_core.recipes.tolerances import limits
from sapiens_export.engines.engine import device_name
from sapiens_export.engines.load import default_device, engine_from_file
from sapiens_export.parity.compare import parity
from sapiens_export.parity.reference import REFERENCE_FILE, Reference
from sapiens_export.parity.report import ParityReport
from sapiens_export.repository.manifest import MANIFEST_FILE, InstalledEngine, installed_engine, read_manifest
from sapiens_export.repository.wiring import misfits
from sapiens_export.repository.write import VERSION_FOLDER
from sapiens_export.repository.written import WrittenModel, written_model
from sapiens_export.weights.hashes import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


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
    """Return the folders of a repository's engines.

    Raises:
        ValueError: There is none.
        PermissionError: This user may not list them.
    """
    models = model_folders(repository).models
    folders = [repository / name for name in models if name.endswith("_engine")]
    if not folders:
        raise ValueError(
            f"{repository} must have engines that `sapiens export` wrote from networks, got none; give the "
            "folder of a model repository"
        )
    return folders


def broken_models(repository: Path) -> list[Verification]:
    """Return the folders that look like models and are none, which keep a server from starting."""
    problem = f"it has no {CONFIG_FILE}, so that no server starts; export it again, or remove it"
    return [Verification(name, problem=problem) for name in model_folders(repository).broken]


def outdated_models(repository: Path) -> dict[str, str]:
    """Return what is wrong with the models that this release has no code for, by their names.

    Raises:
        OSError: Their code cannot be read.
    """
    missing = {name: missing_modules(repository / name) for name in model_folders(repository).models}
    return {
        name: f"it needs {', '.join(sorted(modules))}, which this release does not have; "
        "export it again into a new folder"
        for name, modules in missing.items()
        if modules
    }


def unfit_ensembles(repository: Path) -> list[Verification]:
    """Return the ensembles that a server cannot load: a model is missing or of another release."""
    outcomes: list[Verification] = []
    models: dict[str, WrittenModel] = {}
    folders = model_folders(repository)
    for name in folders.models:
        try:
            models[name] = written_model(repository / name)
        except ValueError as error:
            outcomes.append(Verification(name, problem=str(error)))
    for name, ensemble in ((name, model) for name, model in models.items() if model.steps):
        missing = {step.model for step in ensemble.steps} - models.keys()
        if problems := _needs(missing, folders.closed, repository) + misfits(ensemble, models):
            problem = f"{'; '.join(problems)}; export its tasks again"
            outcomes.append(Verification(name, problem=problem))
    return outcomes


def _needs(missing: set[str], closed: Sequence[str], repository: Path) -> list[str]:
    kinds = {
        f"not in {repository}": missing.difference(closed),
        "which this user may not read": missing.intersection(closed),
    }
    return [f"it needs {', '.join(sorted(names))}, {kind}" for kind, names in kinds.items() if names]


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
            _check_files(folder)
            yield replace(outcome, report=_report(folder, engine, device))
        except (ValueError, OSError, RuntimeError) as error:  # torch raises RuntimeErrors for broken engines
            yield replace(outcome, problem=str(error))


def _report(folder: Path, engine: InstalledEngine, device: str | None) -> ParityReport:
    config, info = engine.config, engine.info
    device = device or default_device(info.runtime)
    return parity(
        engine_from_file(info.runtime, folder / VERSION_FOLDER / ENGINE_FILES[info.runtime], device),
        Reference.load(folder / REFERENCE_FILE, config.recipe, config.output_hw),
        limits(config.recipe, info.precision, untrained=info.untrained, is_gpu=device == "cuda"),
        device=device_name(device),
        max_batch_size=engine.serving.max_batch_size,
    )


def _check_files(folder: Path) -> None:
    """Refuse an engine whose files are not those that were exported."""
    exported = read_manifest(folder).get("engine_sha256")
    if not isinstance(exported, dict):
        raise ValueError(
            f"{folder / MANIFEST_FILE} must tell the hashes of its files; export the engine again"
        )
    files = {folder / VERSION_FOLDER / name: sha256 for name, sha256 in exported.items()}
    for file, sha256 in files.items():
        if not file.is_file() or file_sha256(file) != sha256:
            seen = "another one" if file.is_file() else "none"
            raise ValueError(
                f"{file} must be the file that was exported, got {seen}; export the engine again"
            )
