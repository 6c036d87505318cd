"""The kind of step that prepares a whole image for an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sapiens_core.contract.metrics import FAILED, REFUSED, STEP_SECONDS
from sapiens_core.contract.settings import StepSettings
from sapiens_core.images.codec import decode_bgr
from sapiens_core.prepare.image import image_inputs
from sapiens_core.triton.figures import Figures
from sapiens_core.triton.respond import Step, respond

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray


class TritonPythonModel:
    """image (B,) uint8 encoded -> what its config names of `ImageInputs`."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the model's config."""
        self._step = Step.from_args(args)
        self._figures = Figures(args["model_name"], STEP_SECONDS, FAILED, REFUSED)
        self._settings = StepSettings.from_args(args)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests."""
        return respond(requests, self._step.inputs, self._prepared, figures=self._figures)

    def finalize(self) -> None:
        """End."""
        self._figures.close()

    def _prepared(self, encoded: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        inputs = vars(image_inputs(decode_bgr(encoded), self._settings))
        return {name: inputs[name] for name in self._step.outputs}
