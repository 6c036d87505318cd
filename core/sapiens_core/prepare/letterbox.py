"""Images into another size with their aspect ratio kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sapiens_core.images.opencv import extended, padded
from sapiens_core.prepare.stretch import stretched

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import Fit, Interpolation


@dataclass(frozen=True)
class Content:
    """Where an image lies in a network's input, the rest of which is padding.

    Attributes:
        rows: Its rows.
        columns: Its columns.
        zoom: Pixels of the input per pixel of the image, before the sides are made whole.
    """

    rows: slice
    columns: slice
    zoom: float

    @property
    def hw(self) -> tuple[int, int]:
        """Its height and width there."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def centered_content(image_hw: tuple[int, int], network_hw: tuple[int, int]) -> Content:
    """Return where `centered` puts an image.

    Args:
        image_hw: Height and width of the image.
        network_hw: Height and width of the network's input.

    Source: Sapiens2 `ResizePadImage`: sides are cut to whole pixels, which loses one for some sizes that
    would fit exactly, and the odd pixel of padding is on the right or below. No side is less than a pixel
    here.
    """
    zoom = min(network_hw[0] / image_hw[0], network_hw[1] / image_hw[1])
    height, width = (max(1, int(side * zoom)) for side in image_hw)
    top, left = (network_hw[0] - height) // 2, (network_hw[1] - width) // 2
    return Content(slice(top, top + height), slice(left, left + width), zoom)


def centered(
    image: NDArray[np.uint8], hw: tuple[int, int], interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Fit an image into the middle of another size, and leave the rest black.

    Args:
        image: (H, W, 3) uint8, in any order of colours.
        hw: Height and width of the result.
        interpolation: See `stretched`.

    Returns:
        (height, width, 3) uint8.

    Source: Sapiens2 `ResizePadImage`, whose padding is black before the normalisation.
    """
    content = centered_content((image.shape[0], image.shape[1]), hw)
    return padded(stretched(image, content.hw, interpolation), hw, content.rows.start, content.columns.start)


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
