"""The models that take engines of several tasks: `human` and `people_pose`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tritonclient.grpc import model_config_pb2 as pb

from sapiens_core.contract.settings import PeopleSettings
from sapiens_core.contract.tensors import IMAGE_HW
from sapiens_core.recipes.combined import HUMAN, HUMAN_TASKS, PEOPLE_POSE
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_export.repository.configs import step_settings
from sapiens_export.repository.manifest import MANIFEST_FILE, InstalledEngine, installed_engine
from sapiens_export.repository.messages import add_parameters, config_text, ensemble_message, step_message
from sapiens_export.repository.written import written_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sapiens_core.contract.settings import Preprocess
    from sapiens_core.contract.steps import StepSpec
    from sapiens_export.networks.config import DetectorConfig, NetworkConfig
    from sapiens_export.repository.serving import Serving

_PEOPLE_TASKS = (Task.DETECT, Task.POSE)


def combined_configs(repository: Path, new: InstalledEngine) -> dict[str, str]:
    """Return the configs of the models that an engine completes, given the engines that are there.

    Args:
        repository: Folder of models, which need not exist.
        new: The engine; one with a name completes none.
    """
    if new.name is not None:
        return {}
    configs = {HUMAN: human_config()} if _completes_human(repository, new.config.task) else {}
    return configs | (_people_configs(repository, new) if new.config.task in _PEOPLE_TASKS else {})


def check_human(repository: Path, new: InstalledEngine) -> None:
    """Refuse an engine with which `human` could not be loaded: its other steps speak of other tensors.

    Raises:
        ValueError: It could not.
    """
    if new.name is not None or not _completes_human(repository, new.config.task):
        return
    others = [step for task in HUMAN_TASKS if task != new.config.task for step in first_recipe(task).steps]
    shared = new.spec.preprocess
    if unlike := [step.name for step in others if step != shared and not _is_as_written(repository, step)]:
        raise ValueError(
            f"{HUMAN} is made of {', '.join(HUMAN_TASKS)}, which must be of one release, but {repository} "
            f"has {', '.join(unlike)} of another; export the three with `sapiens export TASK --repository` "
            "into a new folder"
        )


def notes_on_people(repository: Path, new: InstalledEngine) -> list[str]:
    """Tell in sentences why an engine does not complete `people_pose`, if for something wrong.

    Args:
        repository: Folder of models, which need not exist.
        new: The engine.
    """
    notes = []
    if new.name is None and new.config.task in _PEOPLE_TASKS:
        for task in _PEOPLE_TASKS:
            try:
                _ = task == new.config.task or _installed(repository, task)
            except ValueError as error:
                notes.append(f"{PEOPLE_POSE.name} is left as it is: {error}")
    return notes


def people_config(
    detect: DetectorConfig,
    pose: NetworkConfig,
    serving: Serving,
    *,
    preprocess: Preprocess = "full",
    parameters: Mapping[str, str],
) -> str:
    """Write the config of the model that finds people and their poses.

    Args:
        detect: The detector.
        pose: The pose network.
        serving: The operator's choices for the pose network.
        preprocess: How persons are cropped.
        parameters: Facts about the pose network, see `ModelInfo`.
    """
    message = step_message(PEOPLE_POSE, pose, serving.at_step())
    message.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=serving.people_instances)
    settings = PeopleSettings(
        step_settings(detect, serving), step_settings(pose, serving, preprocess), pose.num_outputs
    )
    add_parameters(message, {**parameters, **settings.to_parameters()})
    return config_text(message)


def human_config() -> str:
    """Write the config of the ensemble that answers all dense tasks of one image."""
    specs = [first_recipe(task) for task in HUMAN_TASKS]
    outputs = (*(spec.outputs[0] for spec in specs), IMAGE_HW)
    engines = tuple(spec.engine for spec in specs)
    postprocessors = tuple(spec.postprocess for spec in specs if spec.postprocess)
    steps = (specs[0].preprocess, *engines, *postprocessors)
    return config_text(ensemble_message(HUMAN, steps, outputs, None, {}))


def _completes_human(repository: Path, task: str) -> bool:
    others = [other for other in HUMAN_TASKS if other != task]
    return task in HUMAN_TASKS and all((repository / other.value).is_dir() for other in others)


def _is_as_written(repository: Path, step: StepSpec) -> bool:
    """Return whether a step in a repository takes and returns what this release would write."""
    try:
        present = written_model(repository / step.name)
    except ValueError:
        return False
    wanted = ({tensor.name for tensor in tensors} for tensors in (step.inputs, step.outputs))
    return [present.inputs, present.outputs] == list(wanted)


def _people_configs(repository: Path, new: InstalledEngine) -> dict[str, str]:
    """Return the config of the model that takes both a detector and a pose network, if now both are there."""
    try:
        detect, pose = (
            new if task == new.config.task else _installed(repository, task) for task in _PEOPLE_TASKS
        )
    except ValueError:  # `notes_on_people` tells of it
        return {}
    if detect is None or pose is None:
        return {}
    text = people_config(
        cast("DetectorConfig", detect.config),
        cast("NetworkConfig", pose.config),
        pose.serving,
        preprocess=pose.info.preprocess,
        parameters=pose.info.to_parameters(),
    )
    return {PEOPLE_POSE.name: text}


def _installed(repository: Path, task: Task) -> InstalledEngine | None:
    """Read what engine a repository has for a task under its own name."""
    folder = repository / first_recipe(task).engine.name
    return installed_engine(folder) if (folder / MANIFEST_FILE).is_file() else None
