"""A folder of models as tritonserver can take it, whatever else lies among them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sapiens_core.contract.folders import CONFIG_FILE, ModelFolders, model_folders, unfinished_moves
from sapiens_server.errors import RepositoryError

ModelControl = Literal["none", "explicit", "poll"]

_LINKS = "models"


def checked_folders(folder: Path, model_control: ModelControl) -> ModelFolders:
    """Return what is in a repository.

    Args:
        folder: The repository.
        model_control: How the server will read it.

    Raises:
        RepositoryError: It holds no model, or a folder that looks like one and is none, or may not be read.
    """
    try:
        folders = model_folders(folder)
    except PermissionError as error:
        raise RepositoryError(
            f"a model repository must be readable, but this user may not read {folder}: {error.strerror}; "
            "correct its permissions"
        ) from error
    if folders.broken and model_control != "explicit":
        raise RepositoryError(
            f"every model must have a {CONFIG_FILE}, in {folder} {', '.join(folders.broken)} have none; "
            "export them again, or remove them"
        )
    if not folders.models:
        seen = "has none" if folder.is_dir() else "is no folder"
        moves = interrupted(folder)
        raise RepositoryError(
            f"a model repository must hold folders with a {CONFIG_FILE}, but {folder} {seen}; "
            f"write one with `sapiens export`{moves and f' ({moves})'}"
        )
    return folders


def models_alone(folder: Path, folders: ModelFolders, run_folder: Path, model_control: ModelControl) -> Path:
    """Return a folder with the models and nothing else: links to them, where there is something else.

    Args:
        folder: The repository.
        folders: What is in it.
        run_folder: Where to make another one.
        model_control: How the server will read it.

    Raises:
        RepositoryError: The server would follow a folder that cannot be read so.
    """
    if not folders.left_out() or model_control == "explicit":  # of which it reads what it is told to load
        return folder
    if model_control == "poll":
        raise RepositoryError(
            f"a repository whose changes are followed must hold models alone, but {folder} has "
            f"{', '.join(sorted(folders.foreign + folders.closed))}; remove them, or serve it with "
            "--model-control none"
        )
    links = run_folder / _LINKS
    links.mkdir()
    for name in folders.models:
        (links / name).symlink_to(folder / name)
    return links


def left_out(location: str | Path, folders: ModelFolders) -> str:
    """Say what of a repository is not served; empty: nothing."""
    names = folders.left_out()
    return f"warning: left out of {location}: {names}" if names else ""


def interrupted(folder: Path) -> str:
    """Say where models may be that an export had begun to move; empty: nowhere.

    Args:
        folder: The repository.
    """
    names = ", ".join(map(str, unfinished_moves(folder)))
    return names and (
        f"warning: an export into {folder} was interrupted, or is under way, and models may be missing that "
        f"are in {names}; unless one is under way, run `sapiens export` into it again, which puts them back"
    )
