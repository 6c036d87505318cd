"""The models of the fake server, as an export of these networks would write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from sapiens_core.contract.model_info import ModelInfo, parity_parameters
from sapiens_core.contract.settings import PeopleSettings, StepSettings
from sapiens_core.contract.steps import StepSpec
from sapiens_core.contract.tensors import IMAGE_HW, TensorSpec
from sapiens_core.labels import ClassSet, KeypointSet
from sapiens_core.recipes.combined import HUMAN, HUMAN_TASKS, PEOPLE_POSE
from sapiens_core.recipes.detectors import (
    NANODET_FAMILY,
    NANODET_LICENCE,
    NANODET_MIN_SCORE,
    NANODET_SIZE,
    NUM_NANODET_CANDIDATES,
)
from sapiens_core.recipes.lookup import FAMILIES, first_recipe, first_recipes
from sapiens_core.recipes.recipe import Recipe, Task
from sapiens_core.recipes.tolerances import limits

_SIZES = {"sapiens": "0.3b", "sapiens2": "0.4b"}
_INPUT_HW = (128, 96)  # small and of the released networks' shape, so that answers take milliseconds
_FEATURES_INPUT_HW = (64, 64)


@dataclass(frozen=True)
class Networks:
    """What the networks behind the models can do.

    Attributes:
        keypoints: What the pose network finds.
        classes: What the segmentation network tells apart.
        max_batch_size: Most boxes of a request.
        num_persons: How many the detector finds in every image.
    """

    keypoints: KeypointSet
    classes: ClassSet
    max_batch_size: int
    num_persons: int

    def __post_init__(self) -> None:
        """Refuse numbers that no server has."""
        if self.max_batch_size < 1 or self.num_persons < 0:
            raise ValueError(
                "max_batch_size must be at least 1 and persons at least 0, "
                f"got {self.max_batch_size} and {self.num_persons}; give larger numbers"
            )

    def settings(self, task: str) -> StepSettings:
        """Return what a task's steps are told about its network."""
        recipe = first_recipe(task)
        if task == Task.DETECT:
            settings = recipe.settings(recipe.network_hw, self.max_batch_size)
            return replace(settings, fit="letterbox", min_score=NANODET_MIN_SCORE)
        hw = _FEATURES_INPUT_HW if task == Task.FEATURES else _INPUT_HW
        return recipe.settings(hw, self.max_batch_size)

    def num_outputs(self, task: str) -> int:
        """Return the number of a network's output channels; of a detector, that of its boxes."""
        sizes: dict[str, int] = {
            Task.SEG: len(self.classes.names),
            Task.POSE: len(self.keypoints.names),
            Task.FEATURES: FAMILIES["sapiens"].sizes[_SIZES["sapiens"]].embed_dim,
            Task.DETECT: NUM_NANODET_CANDIDATES,
        }
        return sizes[task] if task in sizes else first_recipe(task).variants[0].num_outputs

    def sizes(self, task: str) -> Mapping[str, int]:
        """Return what the letters in the shapes of a task's tensors stand for."""
        (height, width), stride = self.settings(task).network_hw, first_recipe(task).output_stride
        return {
            "H": height,
            "W": width,
            "h": height // stride,
            "w": width // stride,
            "C": self.num_outputs(task),
        }

    def info(self, spec: Recipe) -> ModelInfo:
        """Return the origin of a task's network: nobody trained it."""
        labels: dict[str, str] = {Task.SEG: self.classes.name, Task.POSE: self.keypoints.name}
        if spec.task == Task.DETECT:
            family, size, licence = NANODET_FAMILY, NANODET_SIZE, NANODET_LICENCE
        else:
            family, licence = spec.family, FAMILIES[spec.family].licence
            size = spec.suffix if spec.suffix in FAMILIES[family].sizes else _SIZES[family]
        return ModelInfo(
            task=spec.task,
            family=family,
            size=size,
            labels=labels.get(spec.task, ""),
            precision="float32",
            runtime="python",
            preprocess="full",
            flip_test=False,
            licence=licence,
            untrained=True,
            checkpoint_sha256="",
        )


@dataclass(frozen=True)
class FakeModel:
    """One model of the server.

    Attributes:
        name: Its name.
        inputs: Tensors it takes.
        outputs: Tensors it returns.
        sizes: What the letters in their shapes stand for.
        parameters: What export would write about it.
        tasks: What it answers; empty: it is a step of other models, and answers nothing itself.
        steps: The models that an ensemble consists of; empty: it is none.
        max_batch_size: Largest batch, where Triton knows about batches.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sizes: Mapping[str, int]
    parameters: Mapping[str, str]
    tasks: tuple[str, ...] = ()
    steps: tuple[StepSpec, ...] = ()
    max_batch_size: int = 0

    def shape(self, tensor: TensorSpec) -> list[int]:
        """Return the dimensions in a tensor's config; -1 is free."""
        fixed = [self.sizes[side] if isinstance(side, str) else side for side in tensor.dims]
        return [-1, *fixed] if tensor.is_batched and not self.max_batch_size else fixed


def default_names() -> tuple[str, ...]:
    """Return the names of one network for each task."""
    return tuple(first_recipes())


def fake_models(names: Iterable[str], networks: Networks) -> Mapping[str, FakeModel]:
    """Make the models that serve some networks.

    Args:
        names: Ensembles such as "depth" or "depth_2b". Their steps come along, their raw ensembles, and
            `human` and `people_pose` where all that these need is there.
        networks: What they can do.

    Raises:
        ValueError: A name is of no task.
    """
    specs = [_spec(name) for name in names]
    models = [model for spec in specs for model in _models(spec, networks)]
    tasks = {spec.task for spec in specs if not spec.suffix}
    if tasks.issuperset(HUMAN_TASKS):
        models.append(_human(networks))
    if tasks.issuperset((Task.DETECT, Task.POSE)):
        models.append(_people(networks))
    return MappingProxyType({model.name: model for model in models})


def _spec(name: str) -> Recipe:
    task, _, suffix = name.partition("_")
    if task not in first_recipes() or (not suffix and task != name):
        raise ValueError(
            f"models must be named after their tasks, {', '.join(first_recipes())}, or such as depth_2b, "
            f"got {name!r}; `human`, `people_pose` and the steps come with what they consist of"
        )
    spec = first_recipe(task)
    return spec.named(suffix) if suffix else spec


def _models(spec: Recipe, networks: Networks) -> Iterator[FakeModel]:
    sizes, info = networks.sizes(spec.task), networks.info(spec)
    exact = dict.fromkeys(limits(spec, info.precision, untrained=info.untrained), 0.0)
    parameters = info.to_parameters() | parity_parameters(exact)
    steps = spec.steps
    whole = FakeModel(spec.name, spec.preprocess.inputs, spec.outputs, sizes, parameters, (spec.task,), steps)
    yield whole
    if spec.raw_outputs:
        yield replace(whole, name=spec.raw_name, outputs=spec.raw_outputs, steps=steps[:2])
    settings = networks.settings(spec.task).to_parameters()
    for step in steps:
        parameters = {} if step is spec.engine else settings
        batch = networks.max_batch_size if step is spec.engine else 0
        yield FakeModel(step.name, step.inputs, step.outputs, sizes, parameters, max_batch_size=batch)


def _human(networks: Networks) -> FakeModel:
    specs = [first_recipe(task) for task in HUMAN_TASKS]
    outputs = (*(spec.outputs[0] for spec in specs), IMAGE_HW)
    finishing = tuple(spec.postprocess for spec in specs if spec.postprocess)
    steps = (specs[0].preprocess, *(spec.engine for spec in specs), *finishing)
    return FakeModel(HUMAN, steps[0].inputs, outputs, {}, {}, HUMAN_TASKS, steps)


def _people(networks: Networks) -> FakeModel:
    pose = first_recipe(Task.POSE)
    settings = PeopleSettings(
        networks.settings(Task.DETECT), networks.settings(Task.POSE), networks.num_outputs(Task.POSE)
    )
    return FakeModel(
        PEOPLE_POSE.name,
        PEOPLE_POSE.inputs,
        PEOPLE_POSE.outputs,
        networks.sizes(Task.POSE),
        networks.info(pose).to_parameters() | settings.to_parameters(),
        (Task.DETECT, Task.POSE),
    )
