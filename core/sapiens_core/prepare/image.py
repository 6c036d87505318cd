"""Whole images to the uint8 pixels that engines take; normalisation is the engine's first layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sapiens_core.images.opencv import swapped_colours
from sapiens_core.prepare.letterbox import centered, letterboxed
from sapiens_core.prepare.stretch import stretched

if TYPE_CHECKING:
    from sapiens_core.contract.settings import Fit, Interpolation, StepSettings

_FITTED: Mapping[Fit, Callable[[NDArray[np.uint8], tuple[int, int], Interpolation], NDArray[np.uint8]]] = {
    "stretch": stretched,
    "letterbox": letterboxed,
    "centered_letterbox": centered,
}


@dataclass(frozen=True)
class ImageInputs:
    """What an engine and the steps after it need of one image.

    Attributes:
        pixels: (1, network height, network width, 3) uint8, RGB: a batch of one.
        image_hw: (2,) int32, height and width of the image.
        finish_hw: The same once more, see `StepSpec`.
    """

    pixels: NDArray[np.uint8]
    image_hw: NDArray[np.int32]
    finish_hw: NDArray[np.int32]


def image_inputs(image_bgr: NDArray[np.uint8], settings: StepSettings) -> ImageInputs:
    """Prepare a whole image for an engine.

    Args:
        image_bgr: (H, W, 3) uint8, BGR.
        settings: Size of the network's input, how the image is fitted into it, and the interpolation.
    """
    pixels = swapped_colours(_FITTED[settings.fit](image_bgr, settings.network_hw, settings.interpolation))[
        None
    ]
    image_hw = np.array(image_bgr.shape[:2], dtype=np.int32)
    return ImageInputs(pixels, image_hw, image_hw)
