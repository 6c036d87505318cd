"""The preprocessor that engines of a repository share: what they must agree on, and whose choices hold.

All is read from the configs that serve, so that another engine's damaged manifest is in nobody's way.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sapiens_core.contract.folders import CONFIG_FILE
from sapiens_core.recipes.combined import HUMAN
from sapiens_export.repository.configs import step_settings
from sapiens_export.repository.written import WrittenStep, written_model, written_step

if TYPE_CHECKING:
    from pathlib import Path

    from sapiens_core.contract.settings import StepSettings
    from sapiens_export.repository.manifest import InstalledEngine


@dataclass(frozen=True)
class SharedStep:
    """A step of an engine that other engines have too.

    Attributes:
        name: Its name in the repository.
        users: The ensembles of others that it is in.
        present: What its config says.
    """

    name: str
    users: tuple[str, ...]
    present: WrittenStep


def shared_preprocess(repository: Path, new: InstalledEngine) -> SharedStep | None:
    """Return the preprocessor of an engine, if others in the repository have it; None: it is its own.

    Args:
        repository: Folder of models, which need not exist.
        new: The engine.
    """
    name = new.spec.preprocess.name
    own = {new.spec.name, HUMAN}  # and the raw ones, each of which stands beside another one
    users = [user for user in _ensembles_with(repository, name) if user not in own and not _is_raw(user)]
    try:
        present = written_step(repository / name)
    except ValueError:  # nothing to agree with: it is written anew
        return None
    return SharedStep(name, tuple(users), present) if users else None


def check_agreement(repository: Path, new: InstalledEngine) -> None:
    """Refuse an engine that needs the shared preprocessor otherwise than the engines that are there.

    Raises:
        ValueError: It does.
    """
    shared = shared_preprocess(repository, new)
    if shared is None:
        return
    wanted = _common(new, step_settings(new.config, new.serving, new.info.preprocess))
    if (seen := _common(new, shared.present.settings)) != wanted:
        raise ValueError(
            f"{new.spec.name} and {shared.users[0]} share {shared.name} and must agree on it, got {wanted} "
            f"for {repository}, which has {seen}; export to another repository"
        )


def changes(repository: Path, new: InstalledEngine) -> list[str]:
    """Tell in sentences what the operator's words change about steps that others share.

    Args:
        repository: Folder of models before the engine is written.
        new: The engine.
    """
    shared = shared_preprocess(repository, new)
    if shared is None:
        return []
    before = asdict(shared.present.choices)
    after = asdict(new.serving.at_step(shared.present.choices))
    changed = [
        f"{name} from {before[name]} to {after[name]}" for name in after if after[name] != before[name]
    ]
    users = ", ".join(shared.users)
    return [f"{shared.name}, which {users} share, changes {' and '.join(changed)}"] if changed else []


def _common(new: InstalledEngine, settings: StepSettings) -> dict[str, object]:
    """Return what the engines that share a preprocessor must agree on."""
    common: dict[str, object] = {
        "input_hw": settings.network_hw,
        "preprocess": settings.preprocess,
        "fit": settings.fit,
        "interpolation": settings.interpolation,
    }
    is_batch_checked = new.spec.preprocess.kind == "persons"  # which counts the boxes
    return {**common, "max_batch_size": settings.max_batch_size} if is_batch_checked else common


def _ensembles_with(repository: Path, step: str) -> list[str]:
    folders = [path.parent for path in sorted(repository.glob(f"*/{CONFIG_FILE}"))]
    return [folder.name for folder in folders if step in _steps(folder)]


def _is_raw(ensemble: str) -> bool:
    return ensemble.endswith("_raw")


def _steps(folder: Path) -> list[str]:
    try:
        return [step.model for step in written_model(folder).steps]
    except ValueError:  # not ours to judge: the server will
        return []
