"""Assemble a model repository that Triton can load: adapters, generated configs, engine file, manifest."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from sapiens_core.tasks import ENGINE_FILE, FAMILIES, TASKS
from sapiens_export.model_config import Serving, model_configs
from sapiens_export.networks.config import released_network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sapiens_core.model_info import ModelInfo
    from sapiens_export.networks.config import NetworkConfig

MANIFEST_FILE = "manifest.json"
_VERSION = "1"


def write_models(
    repository: Path,
    config: NetworkConfig,
    info: ModelInfo,
    *,
    engine: Path,
    serving: Serving,
    facts: Mapping[str, object],
) -> list[str]:
    """Write or replace the models that serve one network; other models in the repository stay as they are.

    Everything is prepared beside the repository and moved in at the end, so that a model folder is either the
    old one or the complete new one.

    Args:
        repository: Folder of models; made if it is missing.
        config: The network.
        info: Its origin, for the ensemble's config and the manifest.
        engine: The engine file, moved into the repository.
        serving: The operator's choices.
        facts: Further entries of the manifest.

    Returns:
        Names of the models written.
    """
    spec = TASKS[config.task]
    configs = model_configs(config, serving, runtime=info.runtime, parameters=info.to_parameters())
    repository.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=repository.parent, prefix=f".{repository.name}-") as staging:
        for name, text in configs.items():
            _copy_adapter(
                name, Path(staging, name), with_code=name != spec.engine.name or info.runtime == "python"
            )
            Path(staging, name, "config.pbtxt").write_text(text)
        engine_folder = Path(staging, spec.engine.name)
        shutil.move(engine, engine_folder / _VERSION / ENGINE_FILE)
        manifest = (
            asdict(info)
            | dict(facts)
            | {"network": asdict(config), "sapiens_triton": version("sapiens-triton")}
        )
        (engine_folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
        repository.mkdir(exist_ok=True)
        for name in configs:
            _replace(Path(staging, name), repository / name, trash=Path(staging, f"{name}.old"))
    return list(configs)


def write_released_configs(repository: Path) -> None:
    """Write the configs of the released networks, without engines, as they are kept under version control.

    Args:
        repository: Folder with the adapters.
    """
    for task in TASKS:
        network = released_network(task, next(iter(FAMILIES["sapiens"].sizes)))
        for name, text in model_configs(network, Serving(), runtime="python", parameters={}).items():
            (repository / name / _VERSION).mkdir(parents=True, exist_ok=True)
            (repository / name / "config.pbtxt").write_text(text)


def _copy_adapter(name: str, target: Path, *, with_code: bool) -> None:
    (target / _VERSION).mkdir(parents=True)
    adapter = files("sapiens_export") / "model_repository" / name / _VERSION / "model.py"
    if with_code and adapter.is_file():
        with as_file(adapter) as path:
            shutil.copyfile(path, target / _VERSION / "model.py")


def _replace(new: Path, target: Path, *, trash: Path) -> None:
    if target.exists():
        target.rename(trash)
    new.rename(target)
