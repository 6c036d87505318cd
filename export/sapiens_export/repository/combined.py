"""The models that take engines of several tasks: `human` and `people_pose`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tritonclient.grpc import model_config_pb2 as pb

from sapiens_core.contract.settings import PeopleSettings
from sapiens_core.contract.steps import by_position
from sapiens_core.contract.tensors import IMAGE_HW
from sapiens_core.recipes.combined import HUMAN, HUMAN_TASKS_OF, PEOPLE_POSE
from sapiens_core.recipes.lookup import first_recipe, recipe
from sapiens_core.recipes.recipe import Task
from sapiens_export.repository.configs import step_settings
from sapiens_export.repository.manifest import MANIFEST_FILE, InstalledEngine, installed_engine
from sapiens_export.repository.messages import add_parameters, config_text, ensemble_message, step_message
from sapiens_export.repository.written import written_model

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
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
    is_complete = _completes_human(repository, new)
    positional = _positional_engines(repository, new) if is_complete else set()
    configs = {HUMAN: human_config(new.config.family, positional)} if is_complete else {}
    return configs | (_people_configs(repository, new) if new.config.task in _PEOPLE_TASKS else {})


def check_human(repository: Path, new: InstalledEngine) -> None:
    """Refuse an engine with which `human` would fail: its other steps are of other tensors or families.

    Raises:
        ValueError: It would.
    """
    if new.name is not None:
        return
    if not _completes_human(repository, new):
        _check_other_human(repository, new)
        return
    tasks = HUMAN_TASKS_OF[new.config.family]
    others = [
        step for task in tasks if task != new.config.task for step in recipe(new.config.family, task).steps
    ]
    shared = new.spec.preprocess
    if unlike := [step.name for step in others if step != shared and not _is_as_written(repository, step)]:
        raise ValueError(
            f"{HUMAN} is made of {', '.join(tasks)}, which must be of one release, but {repository} "
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
    positional: tuple[str, ...] = (),
) -> str:
    """Write the config of the model that finds people and their poses.

    Args:
        detect: The detector.
        pose: The pose network.
        serving: The operator's choices for the pose network.
        preprocess: How persons are cropped.
        parameters: Facts about the pose network, see `ModelInfo`.
        positional: Names of the engines whose tensors are called as by `by_position`.
    """
    message = step_message(PEOPLE_POSE, pose, serving.at_step())
    message.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=serving.people_instances)
    settings = PeopleSettings(
        step_settings(detect, serving),
        step_settings(pose, serving, preprocess),
        pose.num_outputs,
        positional,
    )
    add_parameters(message, {**parameters, **settings.to_parameters()})
    return config_text(message)


def human_config(family: str, positional: Collection[str] = ()) -> str:
    """Write the config of the ensemble that answers several dense tasks of one image.

    Args:
        family: Generation of its networks.
        positional: Names of the engines whose tensors are called as by `by_position`.
    """
    specs = [recipe(family, task) for task in HUMAN_TASKS_OF[family]]
    results = [tensor for spec in specs for tensor in spec.outputs if tensor is not IMAGE_HW]
    # What the networks that share a preprocessor do comes after it, and before the next one.
    steps: list[StepSpec] = []
    for preprocess in dict.fromkeys(spec.preprocess for spec in specs):
        users = [spec for spec in specs if spec.preprocess == preprocess]
        steps += [preprocess, *(spec.engine for spec in users)]
        steps += [spec.postprocess for spec in users if spec.postprocess]
    outputs = (*results, IMAGE_HW)
    return config_text(ensemble_message(HUMAN, steps, outputs, None, {}, positional=positional))


def _positional_engines(repository: Path, new: InstalledEngine) -> set[str]:
    """Return which engines of `human` call their tensors as by `by_position`, once a new one is there."""
    family, task = new.config.family, new.config.task
    engines = [recipe(family, other).engine for other in HUMAN_TASKS_OF[family] if other != task]
    found = {engine.name for engine in engines if _is_written_as(repository, by_position(engine))}
    return found | ({new.spec.engine.name} if new.is_positional else set())


def _completes_human(repository: Path, new: InstalledEngine) -> bool:
    family, task = new.config.family, new.config.task
    tasks = HUMAN_TASKS_OF.get(family, ())
    others = [other for other in tasks if other != task]
    return task in tasks and all(_is_of_family(repository / other.value, family) for other in others)


def _is_of_family(ensemble: Path, family: str) -> bool:
    """Return whether there is such an ensemble; one that does not tell its family may be of any."""
    if not ensemble.is_dir():
        return False
    try:
        return written_model(ensemble).family in ("", family)
    except ValueError:
        return True


def _check_other_human(repository: Path, new: InstalledEngine) -> None:
    """Refuse an engine that would take the place of one of another family in `human`."""
    try:
        present = written_model(repository / HUMAN)
    except ValueError:
        return
    is_used = new.spec.engine.name in {step.model for step in present.steps}
    if is_used and not _is_of_family(repository / new.config.task, new.config.family):
        raise ValueError(
            f"{HUMAN} in {repository} is made of networks of one family, whose {new.config.task} would be of "
            f"{new.config.family}; give this one a --name, or export it into another folder"
        )


def _is_as_written(repository: Path, step: StepSpec) -> bool:
    """Return whether a step in a repository takes and returns what this release would write."""
    is_positional = step.kind == "engine" and _is_written_as(repository, by_position(step))
    return is_positional or _is_written_as(repository, step)


def _is_written_as(repository: Path, step: StepSpec) -> bool:
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
        positional=tuple(each.spec.engine.name for each in (detect, pose) if each.is_positional),
    )
    return {PEOPLE_POSE.name: text}


def _installed(repository: Path, task: Task) -> InstalledEngine | None:
    """Read what engine a repository has for a task under its own name."""
    folder = repository / first_recipe(task).engine.name
    return installed_engine(folder) if (folder / MANIFEST_FILE).is_file() else None
