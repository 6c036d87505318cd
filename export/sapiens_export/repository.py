"""Assemble a model repository that Triton can load: adapters, generated configs, engine file, manifest."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sapiens_core.families import FAMILIES
from sapiens_core.model_info import ModelInfo
from sapiens_core.tasks import ENGINE_FILES, HUMAN, HUMAN_TASKS, PEOPLE_POSE, TASKS, Task
from sapiens_export.model_config import Serving, adapter_file, human_config, model_configs, people_config
from sapiens_export.networks.config import (
    HOG_DETECTOR,
    DetectorConfig,
    NetworkConfig,
    released_network,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sapiens_export.networks.config import EngineConfig

MANIFEST_FILE = "manifest.json"
_VERSION = "1"
_ADAPTER_FILE = "model.py"
_LOCK_FILE = ".sapiens-export.lock"
_PEOPLE_TASKS = (Task.DETECT, Task.POSE)


@dataclass(frozen=True)
class InstalledEngine:
    """An engine of a repository, as its manifest describes it.

    Attributes:
        config: Its architecture.
        info: Its origin.
        serving: The operator's choices.
    """

    config: EngineConfig
    info: ModelInfo
    serving: Serving


def write_models(
    repository: Path,
    config: EngineConfig,
    info: ModelInfo,
    *,
    engine: Path | None,
    serving: Serving,
    facts: Mapping[str, object],
) -> list[str]:
    """Write or replace the models that serve one network; other models in the repository stay as they are.

    Everything is prepared in a folder of its own and moved in at the end by renaming, so that a model folder
    is either the old one or the complete new one, but for the moment between two renames in which it is
    absent. If a move fails or is interrupted, the old folders are put back. Of several exports into one
    repository, one after the other moves its models in.

    Args:
        repository: Folder of models; made if it is missing.
        config: The network.
        info: Its origin, for the ensemble's config and the manifest.
        engine: The engine file, moved into the repository, best from a `staging_folder`; None: the engine
            needs none.
        serving: The operator's choices.
        facts: Further entries of the manifest.

    Returns:
        Names of the models written.

    Raises:
        ValueError: An engine in the repository shares the preprocessor and needs another input size, or
            nothing can be written there.
    """
    repository = Path(os.path.realpath(repository))
    spec = TASKS[config.task]
    with staging_folder(repository) as staging, _locked(repository):
        _check_shared_preprocess(repository, config, info)
        configs = _configs(repository, InstalledEngine(config, info, serving))
        for name, text in configs.items():
            is_engine = name == spec.engine.name
            _copy_adapter(
                name,
                Path(staging, name),
                file=adapter_file(config) if is_engine else _ADAPTER_FILE,
                with_code=not is_engine or info.runtime == "python",
            )
            Path(staging, name, "config.pbtxt").write_text(text)
        engine_folder = Path(staging, spec.engine.name)
        if engine is not None:
            shutil.move(engine, engine_folder / _VERSION / ENGINE_FILES[info.runtime])
        manifest = {
            **asdict(info),
            **facts,
            "network": asdict(config),
            "serving": asdict(serving),
            "sapiens_triton": version("sapiens-triton"),
        }
        (engine_folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
        _move_in(list(configs), staging, repository)
    return list(configs)


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
def _locked(repository: Path) -> Iterator[None]:
    """Keep other exports out of a repository, waiting until they have left it."""
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


def _configs(repository: Path, new: InstalledEngine) -> dict[str, str]:
    """Return the configs of all models that come with an engine, given those already there."""
    task, info = new.config.task, new.info
    configs = model_configs(
        new.config,
        new.serving,
        runtime=info.runtime,
        preprocess=info.preprocess,
        parameters=info.to_parameters(),
    )
    if _completes_human(repository, task):
        configs[HUMAN] = human_config()
    if task in _PEOPLE_TASKS:
        configs.update(_people_configs(repository, new))
    return configs


def _check_shared_preprocess(repository: Path, config: EngineConfig, info: ModelInfo) -> None:
    spec = TASKS[config.task]
    wanted = {"input_hw": list(config.input_hw), "preprocess": info.preprocess}
    for other in TASKS.values():
        manifest = repository / other.engine.name / MANIFEST_FILE
        if other is spec or other.preprocess is not spec.preprocess or not manifest.is_file():
            continue
        facts = json.loads(manifest.read_text())
        present = {"input_hw": facts["network"]["input_hw"], "preprocess": facts["preprocess"]}
        if present != wanted:
            raise ValueError(
                f"{config.task.value} and {other.task.value} share {spec.preprocess.name} and must agree on "
                f"it, got {wanted} for {repository}, which has {present}; export to another repository"
            )


def _completes_human(repository: Path, task: Task) -> bool:
    others = [other for other in HUMAN_TASKS if other is not task]
    return task in HUMAN_TASKS and all((repository / other.value).is_dir() for other in others)


def _people_configs(repository: Path, new: InstalledEngine) -> dict[str, str]:
    """Return the config of the model that takes both a detector and a pose network, if now both are there."""
    detect, pose = (
        new if task is new.config.task else _installed(repository, task) for task in _PEOPLE_TASKS
    )
    if detect is None or pose is None:
        return {}
    text = people_config(
        cast("DetectorConfig", detect.config),
        cast("NetworkConfig", pose.config),
        pose.serving,
        preprocess=pose.info.preprocess,
        parameters=pose.info.to_parameters(),
    )
    return {PEOPLE_POSE.name: text}


def _installed(repository: Path, task: Task) -> InstalledEngine | None:
    """Read what engine a repository has for a task."""
    path = repository / TASKS[task].engine.name / MANIFEST_FILE
    if not path.is_file():
        return None
    manifest = json.loads(path.read_text())
    network = {**manifest["network"], "input_hw": tuple(manifest["network"]["input_hw"])}
    config = DetectorConfig(**network) if task is Task.DETECT else NetworkConfig(**{**network, "task": task})
    info = ModelInfo(**{field.name: manifest[field.name] for field in fields(ModelInfo)})
    return InstalledEngine(config, info, Serving(**manifest["serving"]))


def write_released_configs(repository: Path) -> None:
    """Write the configs of the released networks, without engines, as they are kept under version control.

    Args:
        repository: Folder with the adapters.
    """
    size = next(iter(FAMILIES["sapiens"].sizes))
    networks = {task: released_network(task, size) for task in TASKS if task is not Task.DETECT}
    configs = {
        HUMAN: human_config(),
        PEOPLE_POSE.name: people_config(HOG_DETECTOR, networks[Task.POSE], Serving(), parameters={}),
    }
    engines: list[EngineConfig] = [*networks.values(), HOG_DETECTOR]
    for network in engines:
        configs |= model_configs(network, Serving(), parameters={})
    for name, text in configs.items():
        (repository / name / _VERSION).mkdir(parents=True, exist_ok=True)
        (repository / name / "config.pbtxt").write_text(text)


def _copy_adapter(name: str, target: Path, *, file: str, with_code: bool) -> None:
    (target / _VERSION).mkdir(parents=True)
    adapter = files("sapiens_export") / "model_repository" / name / _VERSION / file
    if with_code and adapter.is_file():
        with as_file(adapter) as path:
            shutil.copyfile(path, target / _VERSION / file)


def _move_in(names: list[str], staging: Path, repository: Path) -> None:
    """Put the new folders of models in place of the old ones, all or none."""
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
