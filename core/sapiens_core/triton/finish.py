"""The kind of step that finishes what an engine returns."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from sapiens_core.contract.metrics import FAILED, REFUSED, STEP_SECONDS
from sapiens_core.contract.settings import StepSettings, finish_function
from sapiens_core.triton.figures import Figures
from sapiens_core.triton.respond import Step, respond

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


class TritonPythonModel:
    """The inputs of its config, in their order -> its outputs, by the function that it names."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the model's config."""
        self._step = Step.from_args(args)
        self._figures = Figures(args["model_name"], STEP_SECONDS, FAILED, REFUSED)
        self._settings = StepSettings.from_args(args)
        self._finish = resolve_name(finish_function(args))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests."""
        return respond(
            requests,
            self._step.inputs,
            self._finished,
            figures=self._figures,
            halvable=self._step.halvable,
        )

    def finalize(self) -> None:
        """End."""
        self._figures.close()

    def _finished(self, *arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return dict(zip(self._step.outputs, self._finish(*arrays, self._settings), strict=True))
