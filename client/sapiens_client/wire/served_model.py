"""What a server's config of a model tells the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from sapiens_client.errors import ModelNotServedError
from sapiens_core.contract.model_info import CONTRACT_PARAMETER, ModelInfo, parity_of
from sapiens_core.contract.settings import StepSettings
from sapiens_core.recipes.combined import PEOPLE_POSE
from sapiens_core.recipes.lookup import first_recipe, recipe
from sapiens_core.recipes.recipe import Recipe, Task

TASK_NAMES = (*map(str, Task), PEOPLE_POSE.name.partition("_")[0])


_STEPS = ("_preprocess", "_engine", "_postprocess", "_raw")


def is_of_task(name: str) -> bool:
    """Return whether a model that is called so may be an ensemble for a task, and not one of its steps."""
    return name.partition("_")[0] in TASK_NAMES and not name.endswith(_STEPS)


@dataclass(frozen=True)
class ServedModel:
    """The config of one model.

    Attributes:
        name: Its name on the server.
        url: Where the server is.
        parameters: What export wrote about it.
        output_dims: Shapes of its outputs by their names; -1 is free.
        steps: Names of the models that it consists of; empty: it is no ensemble.
    """

    name: str
    url: str
    parameters: Mapping[str, str]
    output_dims: Mapping[str, tuple[int, ...]]
    steps: tuple[str, ...] = ()

    @cached_property
    def info(self) -> ModelInfo:
        """Origin and kind of the network behind the model.

        Raises:
            ModelNotServedError: The model was not written by `sapiens export`.
        """
        try:
            return ModelInfo.from_parameters(self.parameters)
        except ValueError as error:
            raise self._foreign(str(error)) from error

    @property
    def recipe(self) -> Recipe:
        """All that this release knows of its network's task.

        Raises:
            ModelNotServedError: Nothing: the network is of a family of later releases.
        """
        try:
            return recipe(self.info.family, self.info.task)
        except ValueError as error:
            raise self._unusable(
                f"'{self.name}' at {self.url} must be of a family that is known here: {error}; upgrade "
                "sapiens-triton where the client runs, or have it finished there with output='image'"
            ) from error

    @property
    def is_exported(self) -> bool:
        """Whether it is an ensemble of `sapiens export`, of whatever release."""
        return CONTRACT_PARAMETER in self.parameters and bool(self.steps)

    def answers(self, task: str) -> bool:
        """Return whether it is one of the ensembles for a task.

        Raises:
            ModelNotServedError: It was not written by `sapiens export`, or by another release of it.
        """
        wanted = {tensor.name for tensor in first_recipe(task).outputs}
        return self.info.task == task and self.output_dims.keys() == wanted

    def check_answers(self, task: str) -> None:
        """Refuse a model that is not one of the ensembles for a task.

        Raises:
            ModelNotServedError: It serves another task, is a step or another kind of ensemble, or was not
                written by `sapiens export`.
        """
        if not self.answers(task):
            wanted = ", ".join(tensor.name for tensor in first_recipe(task).outputs)
            raise ModelNotServedError(
                f"model must be an ensemble for {task} with outputs {wanted}, got '{self.name}' "
                f"at {self.url} for {self.info.task} with {', '.join(self.output_dims)}; name another"
            )

    @property
    def parity(self) -> dict[str, float]:
        """How far its engine was from the float32 network, by measure.

        Raises:
            ModelNotServedError: What the config says about that is nothing of `sapiens export`.
        """
        try:
            return parity_of(self.parameters)
        except ValueError as error:
            raise self._foreign(str(error)) from error

    @cached_property
    def settings(self) -> StepSettings:
        """What the steps around an engine are told about it.

        Raises:
            ModelNotServedError: The model is no such step of `sapiens export`.
        """
        try:
            return StepSettings.from_parameters(self.parameters)
        except ValueError as error:
            raise self._foreign(str(error)) from error

    def _foreign(self, reason: str) -> ModelNotServedError:
        return self._unusable(f"'{self.name}' at {self.url} is no model of Sapiens: {reason}")

    def _unusable(self, sentence: str) -> ModelNotServedError:
        error = ModelNotServedError(sentence)
        error.url = self.url
        return error
