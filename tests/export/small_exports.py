"""An export without its long work, for processes that are killed in the middle of it."""

from pathlib import Path

from sapiens_core.recipes.tasks import Task
from sapiens_export.exporter import EngineOptions, model_info
from sapiens_export.networks.config import released_network
from sapiens_export.repository.manifest import InstalledEngine
from sapiens_export.repository.serving import Serving
from sapiens_export.repository.write import write_models


def write_depth(repository: Path, max_batch_size: int = 4) -> None:
    """Write the models of a depth network, but for the engine's file."""
    config = released_network(Task.DEPTH, "0.3b")
    info = model_info(config, EngineOptions(), is_trained=False)
    new = InstalledEngine(config, info, Serving(max_batch_size=max_batch_size))
    write_models(repository, new, engine=None, facts={})
