"""The folders of a model repository: which of them are models, and what else lies among them.

Triton takes every folder for a model, and refuses the whole repository for one that is none.
"""

from __future__ import annotations

import importlib.util
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CONFIG_FILE = "config.pbtxt"
_OWN_MODULE = re.compile(r"^from (sapiens_core[\w.]*) import", re.MULTILINE)
MOVES_FILE = ".moving"  # in a staging folder while models are moved: names of those that are


@dataclass(frozen=True)
class ModelFolders:
    """What the folders of a repository are, by their names.

    Attributes:
        models: Those with a config.
        broken: Those with a version but without a config, which look like models.
        foreign: All others, such as a tool's, or what an interrupted export has left.
        closed: Those that this user may not read, such as `lost+found`, or models of another user.
    """

    models: tuple[str, ...]
    broken: tuple[str, ...]
    foreign: tuple[str, ...]
    closed: tuple[str, ...] = ()

    def left_out(self) -> str:
        """Say what is no model and why; empty: there is nothing."""
        reasons = {f"without a {CONFIG_FILE}": self.foreign, "that this user may not read": self.closed}
        return "; ".join(f"{', '.join(names)}, {reason}" for reason, names in reasons.items() if names)


def model_folders(repository: Path) -> ModelFolders:
    """Tell a repository's models from what else is there.

    Raises:
        PermissionError: This user may not list it.
    """
    kinds: dict[str, list[str]] = {"models": [], "broken": [], "foreign": [], "closed": []}
    for name, is_folder in sorted(_entries(repository).items()):
        if is_folder:
            kinds[_kind(repository / name)].append(name)
    return ModelFolders(**{kind: tuple(names) for kind, names in kinds.items()})


def missing_modules(model: Path) -> set[str]:
    """Return what a Python model wants of this project and does not find: another release wrote it.

    Args:
        model: Its folder.

    Raises:
        OSError: Its code cannot be read.
    """
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in model.glob("*/model.py"))
    return {name for text in texts for name in _OWN_MODULE.findall(text) if not _exists(name)}


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def staging_folders(repository: Path) -> list[Path]:
    """Return the folders in which exports prepare models, beside the repository and in it.

    Args:
        repository: Folder of models, which need not exist.
    """
    repository = Path(os.path.realpath(repository))
    named = re.compile(rf"\.{re.escape(repository.name)}-export-[a-z0-9_]{{8}}")
    found: list[Path] = []
    for place in (repository.parent, repository):
        with suppress(OSError):  # a parent that may not be listed has none of ours
            found += [path for path in place.iterdir() if named.fullmatch(path.name)]
    return found


def unfinished_moves(repository: Path) -> list[Path]:
    """Return the staging folders with a journal, which may hold the only copy of a model.

    Args:
        repository: Folder of models, which need not exist.
    """
    with_journal = []
    for folder in staging_folders(repository):
        with suppress(OSError):  # one of another user
            if (folder / MOVES_FILE).exists():
                with_journal.append(folder)
    return with_journal


def _kind(folder: Path) -> str:
    try:
        entries = _entries(folder)
    except PermissionError:
        return "closed"
    if entries.get(CONFIG_FILE) is False:
        return "models"
    has_version = any(is_folder and name.isdecimal() for name, is_folder in entries.items())
    return "broken" if has_version and not folder.name.startswith(".") else "foreign"


def _entries(folder: Path) -> dict[str, bool]:
    """Return what is in a folder, and whether it is one; nothing if there is no folder.

    Raises:
        PermissionError: It may not be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return {entry.name: _is_folder(entry) for entry in entries}
    except PermissionError:
        raise
    except OSError:
        return {}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to where this user may not look
        return True
