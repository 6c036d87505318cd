"""The models of the released networks, as they are kept under version control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapiens_core.contract.folders import CONFIG_FILE
from sapiens_core.recipes.combined import HUMAN, PEOPLE_POSE
from sapiens_core.recipes.lookup import FAMILIES
from sapiens_core.recipes.recipe import Task
from sapiens_export.networks.config import NANODET, released_network
from sapiens_export.repository.adapters import write_adapter
from sapiens_export.repository.combined import human_config, people_config
from sapiens_export.repository.configs import model_configs
from sapiens_export.repository.serving import Serving
from sapiens_export.repository.write import VERSION_FOLDER

if TYPE_CHECKING:
    from pathlib import Path

    from sapiens_export.networks.config import EngineConfig


def write_released_configs(repository: Path) -> None:
    """Write the models of the released networks, without engines, as they are kept under version control.

    Args:
        repository: Folder of models.
    """
    size = next(iter(FAMILIES["sapiens"].sizes))
    networks = {task: released_network(task, size) for task in FAMILIES["sapiens"].recipes}
    configs = {
        HUMAN: human_config("sapiens"),
        PEOPLE_POSE.name: people_config(NANODET, networks[Task.POSE], Serving(), parameters={}),
    }
    engines: list[EngineConfig] = [*networks.values(), NANODET]
    for network in engines:
        configs |= model_configs(network, Serving(), parameters={})
    for name, text in configs.items():
        (repository / name / VERSION_FOLDER).mkdir(parents=True, exist_ok=True)
        (repository / name / CONFIG_FILE).write_text(text)
    steps = {step for network in engines for step in network.recipe.steps} | {PEOPLE_POSE}
    for step in steps:
        write_adapter(repository / step.name / VERSION_FOLDER, step)
