"""What is known of an engine in a repository: the manifest beside it, written once and read again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sapiens_core.contract.model_info import ModelInfo
from sapiens_core.recipes.lookup import recipe
from sapiens_export.documents import from_json
from sapiens_export.networks.config import DetectorConfig, config_type
from sapiens_export.repository.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sapiens_core.recipes.recipe import Recipe
    from sapiens_export.networks.config import EngineConfig

MANIFEST_FILE = "manifest.json"
# Goes up when a release cannot read what another one has written.
_FORMAT_KEY, _FORMAT = "format", 1


@dataclass(frozen=True)
class InstalledEngine:
    """An engine of a repository, as its manifest describes it.

    Attributes:
        config: Its architecture.
        info: Its origin.
        serving: The operator's choices.
        name: Tells it from the task's other engines in the repository, see `Recipe.named`. None: it is the
            one that clients call by the name of the task, and that answers in `human` and `people_pose`.
    """

    config: EngineConfig
    info: ModelInfo
    serving: Serving
    name: str | None = None

    @property
    def spec(self) -> Recipe:
        """The models that serve it."""
        spec = self.config.recipe.finished_on(self.serving.finish)
        return spec if self.name is None else spec.named(self.name)

    @property
    def has_own_adapter(self) -> bool:
        """It is run by torch in Triton's Python backend."""
        return self.serving.has_own_adapter(self.info.runtime)

    @property
    def is_positional(self) -> bool:
        """Its tensors are called as by `by_position`."""
        return self.serving.is_positional(self.info.runtime)


def manifest(new: InstalledEngine, facts: Mapping[str, object]) -> dict[str, object]:
    """Return all facts about an engine as plain data.

    Args:
        new: The engine.
        facts: Further ones.
    """
    return {
        _FORMAT_KEY: _FORMAT,
        **asdict(new.info),
        **facts,
        "name": new.name,
        "network": asdict(new.config),
        "serving": asdict(new.serving),
        "sapiens_triton": version("sapiens-triton"),
    }


def installed_engine(folder: Path) -> InstalledEngine:
    """Read what the manifest in an engine's folder says.

    Raises:
        ValueError: It is not what `write_models` wrote.
    """
    facts = read_manifest(folder)
    try:
        own = recipe(facts["family"], facts["task"])
        is_detector = own.reduction == "candidates"
        kind: type[EngineConfig] = DetectorConfig if is_detector else config_type(own.family)
        info = {field.name: facts[field.name] for field in fields(ModelInfo)}
        engine = InstalledEngine(
            from_json(kind, json.dumps(facts["network"])),
            from_json(ModelInfo, json.dumps(info)),
            from_json(Serving, json.dumps(facts["serving"])),
            facts["name"],
        )
        if engine.info.task != engine.config.task:
            raise ValueError(f"its task is {engine.info.task!r}, and its network's {engine.config.task!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise _foreign_manifest(folder, error) from error
    return engine


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read all facts about an engine.

    Raises:
        ValueError: There is no manifest, or it is none of this release's.
    """
    try:
        facts = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _foreign_manifest(folder, error) from error
    if not isinstance(facts, dict):
        raise _foreign_manifest(folder, TypeError(f"it is a {type(facts).__name__}"))
    if facts.get(_FORMAT_KEY) != _FORMAT:
        release = facts.get("sapiens_triton", "unknown")
        seen = f"it has format {facts.get(_FORMAT_KEY)!r}, of release {release!r}"
        raise _foreign_manifest(folder, ValueError(f"{seen}, not {_FORMAT}"))
    return facts


def _foreign_manifest(folder: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{folder / MANIFEST_FILE} must be of this release of `sapiens export`, got {error!r}; "
        "export the engine again, or remove its folder"
    )
