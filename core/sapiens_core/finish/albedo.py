"""Albedo at network size to a picture at image size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.finish.letterbox import content_of, image_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings


def image_albedo(
    albedo_map: NDArray[np.float32], network_hw: tuple[int, int], image_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """Bring the colours of surfaces to the size of the image.

    Args:
        albedo_map: (3, h, w) float32, the network's output: red, green and blue, for the most part 0 to 1.
        network_hw: Height and width of the network's input.
        image_hw: Height and width of the image.

    Returns:
        (H, W, 3) uint8, RGB: the colours without light and shadow.

    Raises:
        ValueError: `albedo_map` has another shape or type, or there are no images of that size.

    Source: Sapiens2 albedo demo: clipped, padding cut off, bilinear, half-pixel centres, no antialiasing, and
    rounded down.
    """
    inside = content_of(albedo_map, network_hw, image_hw).clip(0, 1)
    levels = image_of(inside, image_hw)
    levels *= np.float32(255)
    return levels.astype(np.uint8)


def finish(
    albedo_map: NDArray[np.float32], finish_hw: NDArray[np.int32], settings: StepSettings
) -> tuple[NDArray[np.uint8]]:
    """Do what the ensemble's last step does: (1, 3, h, w) and the image's size to (H, W, 3) colours."""
    height, width = finish_hw.tolist()
    return (image_albedo(albedo_map[0], settings.network_hw, (height, width)),)
