"""An export without its long work, for processes that are killed in the middle of it."""

from collections.abc import Mapping
from pathlib import Path

from sapiens_core.contract.engines import Precision
from sapiens_core.recipes import tolerances
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_export.exporter import EngineOptions, model_info
from sapiens_export.networks.config import released_network
from sapiens_export.repository.manifest import InstalledEngine
from sapiens_export.repository.serving import Serving
from sapiens_export.repository.write import Written, write_models


def installed(task: Task, max_batch_size: int = 4, name: str | None = None) -> InstalledEngine:
    """Return what is known of a released network's engine."""
    config = released_network(task, "0.3b")
    info = model_info(config, EngineOptions(), is_trained=False)
    return InstalledEngine(config, info, Serving(max_batch_size=max_batch_size), name)


def write(repository: Path, task: Task, max_batch_size: int = 4, name: str | None = None) -> Written:
    """Write the models of a network, but for the engine's file."""
    return write_models(repository, installed(task, max_batch_size, name), engine=None, facts={})


def write_depth(repository: Path, max_batch_size: int = 4) -> Written:
    """Write those of a depth network."""
    return write(repository, Task.DEPTH, max_batch_size)


def limits(task: str, precision: Precision, *, untrained: bool) -> Mapping[str, float]:
    """Return how far an engine of the first family may be from its network."""
    return tolerances.limits(first_recipe(task), precision, untrained=untrained)
