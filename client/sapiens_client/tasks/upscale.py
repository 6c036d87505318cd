"""The network's own arrays to those as large as the image, as the server's postprocessors do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sapiens_core.recipes.lookup import first_recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings


def finished(
    task: str, maps: NDArray[Any], settings: StepSettings, image_hw: NDArray[np.int32]
) -> NDArray[Any]:
    """Do what the server's postprocessor of a task does.

    Args:
        task: Whose.
        maps: (1, C, h, w), the network's own array.
        settings: What the postprocessor is told.
        image_hw: (2,) int32, height and width of the image.

    Raises:
        ValueError: `maps` or `image_hw` has another form.
    """
    array: NDArray[Any]
    (array,) = first_recipe(task).finished(maps, image_hw, settings)
    return array
