"""The kind of step that finds people and their poses; the one that calls engines itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sapiens_core.contract.metrics import FAILED, PERSONS, REFUSED, STEP_SECONDS
from sapiens_core.contract.settings import PeopleSettings
from sapiens_core.contract.steps import by_position
from sapiens_core.images.codec import decode_bgr
from sapiens_core.people import people_pose
from sapiens_core.recipes.combined import PEOPLE_ENGINES
from sapiens_core.triton.figures import Figures
from sapiens_core.triton.respond import Step, respond

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from sapiens_core.people import Engine


class TritonPythonModel:
    """image (B,) uint8 encoded, whole_image_if_nobody (1,) bool or none -> everybody in it; N may be 0.

    keypoints (N, K, 2), scores (N, K), person_bboxes (N, 4), bbox_scores (N,) float32, image_hw (2,) int32.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the model's config."""
        self._step = Step.from_args(args)
        self._figures = Figures(args["model_name"], STEP_SECONDS, FAILED, REFUSED, PERSONS)
        self._settings = PeopleSettings.from_args(args)
        self._engines = [
            by_position(engine) if engine.name in self._settings.positional else engine
            for engine in PEOPLE_ENGINES
        ]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests."""
        return respond(
            requests, self._step.inputs, self._people, engines=self._engines, figures=self._figures
        )

    def finalize(self) -> None:
        """End."""
        self._figures.close()

    def _people(
        self,
        detect: Engine,
        pose: Engine,
        encoded: NDArray[np.uint8],
        whole_image_if_nobody: NDArray[np.bool_] | None,
    ) -> dict[str, NDArray[Any]]:
        use_whole_image = whole_image_if_nobody is not None and bool(whole_image_if_nobody[0])
        image = decode_bgr(encoded)
        found = people_pose(image, detect, pose, self._settings, whole_image_if_nobody=use_whole_image)
        self._figures.persons(len(found.person_bboxes))
        return vars(found)
