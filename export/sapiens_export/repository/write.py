"""Assemble a model repository that Triton can load: adapters, generated configs, engine files, manifest."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from sapiens_core.contract.folders import CONFIG_FILE, missing_modules, model_folders, unfinished_moves
from sapiens_core.contract.model_info import parity_parameters
from sapiens_core.recipes.combined import PEOPLE_POSE
from sapiens_export.repository.adapters import write_adapter
from sapiens_export.repository.combined import check_human, combined_configs, notes_on_people
from sapiens_export.repository.configs import model_configs
from sapiens_export.repository.manifest import MANIFEST_FILE, InstalledEngine, manifest
from sapiens_export.repository.shared_steps import changes, check_agreement, shared_preprocess
from sapiens_export.repository.staging import locked, move_in, staging_folder

if TYPE_CHECKING:
    from collections.abc import Mapping


VERSION_FOLDER = "1"
_PLACEHOLDER_FILE = "placeholder.txt"
# What Triton, shells and file systems that ignore case take alike; the rest of a model's name is a role.
_NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,38}[a-z0-9])?")
_ROLES = ("raw", "preprocess", "engine", "postprocess")


@dataclass(frozen=True)
class Written:
    """What was written into a repository.

    Attributes:
        models: Names of the models.
        notes: What else the operator should know, see `notes_about`.
    """

    models: tuple[str, ...]
    notes: tuple[str, ...]


def write_models(
    repository: Path,
    new: InstalledEngine,
    *,
    engine: Path | None,
    beside: Path | None = None,
    facts: Mapping[str, object],
    parity: Mapping[str, float] = MappingProxyType({}),
) -> Written:
    """Write or replace the models that serve one network; other models in the repository stay as they are.

    Everything is prepared in a folder of its own and moved in at the end by renaming, so that a model folder
    is either the old one or the complete new one, but for the moment between two renames in which it is
    absent. If a move fails or is interrupted, the old folders are put back. Of several exports into one
    repository, one after the other moves its models in. No model's folder refers to anything outside of it,
    so that each may be copied alone, as Triton does from object storage.

    Args:
        repository: Folder of models; made if it is missing.
        new: The network, where it comes from, and how it is served.
        engine: Folder whose files are moved into the engine model's version, best in a `staging_folder`;
            None: the engine needs none.
        beside: Folder whose files are moved beside the manifest; None: there are none.
        facts: Further entries of the manifest.
        parity: How far the engine is from its float32 network, for clients to read.

    Raises:
        ValueError: `check_models` refuses the engine, or nothing can be written there.
    """
    repository = Path(os.path.realpath(repository))
    with staging_folder(repository) as staging, locked(repository):
        check_models(repository, new)
        configs = _configs(repository, new, parity)
        for name, text in configs.items():
            _write_model(Path(staging, name), text, new)
        engine_folder = Path(staging, new.spec.engine.name)
        _move_files(engine, engine_folder / VERSION_FOLDER)
        _move_files(beside, engine_folder)
        (engine_folder / MANIFEST_FILE).write_text(json.dumps(manifest(new, facts), indent=2) + "\n")
        notes = tuple(notes_about(repository, new))
        move_in(list(configs), staging, repository)
    return Written(tuple(configs), notes)


def planned_models(repository: Path, new: InstalledEngine) -> set[str]:
    """Return the names of the models that `write_models` would write.

    Args:
        repository: Folder of models, which need not exist.
        new: The network and how it is to be served.
    """
    return set(_configs(repository, new))


def notes_about(repository: Path, new: InstalledEngine) -> list[str]:
    """Tell in sentences what `write_models` would change, or leave as it is, beside the engine itself.

    Args:
        repository: Folder of models, which need not exist.
        new: The network and how it is to be served.
    """
    notes = changes(repository, new) + notes_on_people(repository, new)
    if not new.has_own_adapter and new.serving.warmup:
        notes.append(
            f"Triton warms {new.spec.engine.name} up itself, and where that fails the whole server may end; "
            "--warmup none does without"
        )
    notes += [
        f"{folder} is left by an export that was interrupted, and may hold the only copy of a model, under "
        f"its name and .old; move what {repository} lacks there, and remove the folder"
        for folder in unfinished_moves(repository)
    ]
    return notes


def check_models(repository: Path, new: InstalledEngine) -> None:
    """Refuse what `write_models` would refuse, before the work on an engine.

    Args:
        repository: Folder of models, which need not exist.
        new: The network and how it is to be served.

    Raises:
        ValueError: The name cannot be one, another engine in the repository shares the preprocessor and
            needs it otherwise, or models that would stay are of a release that no server could load with it.
        OSError: What is in the repository cannot be read.
    """
    check_name(new.name)
    _check_releases(repository, new)
    check_agreement(repository, new)
    check_human(repository, new)


def _check_releases(repository: Path, new: InstalledEngine) -> None:
    """Refuse an engine beside models that this release has no code for: no server could load both."""
    staying = set(model_folders(repository).models) - planned_models(repository, new)
    if outdated := sorted(name for name in staying if missing_modules(repository / name)):
        raise ValueError(
            f"{repository} must have models of this release only, but {', '.join(outdated)} need code of "
            "another; export them again, and this one, into a new folder"
        )


def check_name(name: str | None) -> None:
    """Refuse what cannot tell an engine from the task's others.

    Args:
        name: What to tell it by; None: it is the one without a name.

    Raises:
        ValueError: The name cannot be one.
    """
    if name is not None and (_NAME.fullmatch(name) is None or name.rpartition("_")[2] in _ROLES):
        raise ValueError(
            "name must be at most 40 small letters, digits, '_', '.' and '-', with a letter or digit at both "
            f"ends, and its last word none of {', '.join(_ROLES)}, got {name!r}; name it after its size, "
            "such as 2b"
        )


def _write_model(folder: Path, config: str, new: InstalledEngine) -> None:
    """Write a model's config and the code of its step."""
    (folder / VERSION_FOLDER).mkdir(parents=True)
    (folder / CONFIG_FILE).write_text(config)
    if "ensemble_scheduling" in config:
        (folder / VERSION_FOLDER / _PLACEHOLDER_FILE).write_text("Object storage keeps no empty folders.\n")
    steps = {
        step.name: step
        for step in (*new.spec.steps, PEOPLE_POSE)
        if step.kind != "engine" or new.has_own_adapter
    }
    if folder.name in steps:
        write_adapter(folder / VERSION_FOLDER, steps[folder.name])


def _move_files(source: Path | None, target: Path) -> None:
    for file in sorted(source.iterdir()) if source else ():
        shutil.move(file, target / file.name)


def _configs(
    repository: Path, new: InstalledEngine, parity: Mapping[str, float] = MappingProxyType({})
) -> dict[str, str]:
    """Return the configs of all models that come with an engine, given those already there."""
    info = new.info
    shared = shared_preprocess(repository, new)
    configs = model_configs(
        new.config,
        new.serving,
        name=new.name,
        runtime=info.runtime,
        preprocess=info.preprocess,
        shared=shared.present.choices if shared else None,
        parameters=info.to_parameters() | parity_parameters(parity),
    )
    return configs | combined_configs(repository, new)
