"""Images into another size with their aspect ratio kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapiens_core.images.opencv import extended
from sapiens_core.prepare.stretch import stretched

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import Fit, Interpolation


def fitted_hw(image_hw: tuple[int, int], network_hw: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """Return the height and width that an image takes of a network's input, from its upper left corner.

    Args:
        image_hw: Height and width of the image.
        network_hw: Height and width of the network's input.
        fit: "stretch" fills the input, "letterbox" keeps the image's aspect ratio.
    """
    if fit == "stretch":
        return network_hw
    zoom = min(network_hw[0] / image_hw[0], network_hw[1] / image_hw[1])
    height, width = (max(1, int(side * zoom + 0.5)) for side in image_hw)
    return height, width


def letterboxed(
    image: NDArray[np.uint8], hw: tuple[int, int], interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Fit an image into the upper left corner of another size.

    Args:
        image: (H, W, 3) uint8, in any order of colours.
        hw: Height and width of the result. What the image leaves free of it, on the right or below, repeats
            its last pixels: any other colour would be an edge.
        interpolation: See `stretched`.

    Returns:
        (height, width, 3) uint8.
    """
    fitted = fitted_hw((image.shape[0], image.shape[1]), hw, "letterbox")
    return extended(stretched(image, fitted, interpolation), hw)
