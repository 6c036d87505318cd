"""The folders of a model repository: which of them are models, and what else lies among them.

Triton takes every folder for a model, and refuses the whole repository for one that is none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CONFIG_FILE = "config.pbtxt"


@dataclass(frozen=True)
class ModelFolders:
    """What the folders of a repository are, by their names.

    Attributes:
        models: Those with a config.
        broken: Those with a version but without a config, which look like models.
        foreign: All others, such as `lost+found`, a tool's, or what an interrupted export has left.
    """

    models: tuple[str, ...]
    broken: tuple[str, ...]
    foreign: tuple[str, ...]


def model_folders(repository: Path) -> ModelFolders:
    """Tell a repository's models from what else is there; one that cannot be listed has nothing."""
    kinds: dict[str, list[str]] = {"models": [], "broken": [], "foreign": []}
    for name, is_folder in sorted(_entries(repository).items()):
        if is_folder:
            kinds[_kind(repository / name)].append(name)
    return ModelFolders(**{kind: tuple(names) for kind, names in kinds.items()})


def _kind(folder: Path) -> str:
    entries = _entries(folder)
    if entries.get(CONFIG_FILE) is False:
        return "models"
    has_version = any(is_folder and name.isdecimal() for name, is_folder in entries.items())
    return "broken" if has_version and not folder.name.startswith(".") else "foreign"


def _entries(folder: Path) -> dict[str, bool]:
    """Return what is in a folder, and whether it is one; nothing if it must not be entered."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_dir() for entry in entries}
    except OSError:
        return {}
