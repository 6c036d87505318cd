"""Images to the uint8 pixels that engines take; normalisation is the engine's first layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def dense_pixels(image_bgr: NDArray[np.uint8], network_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Stretch an image to the network's input size, ignoring its aspect ratio.

    Args:
        image_bgr: (H, W, 3) uint8, BGR.
        network_hw: Height and width of the network's input.

    Returns:
        (1, network height, network width, 3) uint8, RGB: a batch of one.

    Source: Sapiens dense pipelines: bilinear on uint8, half-pixel centres, no antialiasing, no padding.
    """
    height, width = network_hw
    resized = cv2.resize(image_bgr, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)[None]  # type: ignore[return-value]
