"""A matting network's output to alpha and foreground at image size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.contract.limits import check_size
from sapiens_core.finish.letterbox import image_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings


def image_matte(
    matte: NDArray[np.float32], image_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Resize the network's output to the size of the image.

    Args:
        matte: (4, h, w) float32, the network's output: red, green and blue of the foreground, each times
            alpha, and alpha; 0 to 1.
        image_hw: Height and width of the image.

    Returns:
        alpha: (H, W) float32, 0 where there is background alone to 1 where there is none.
        foreground: (H, W, 3) float32, RGB, 0 to 1, premultiplied: over another background it is
            `foreground + (1 - alpha) * background`.

    Raises:
        ValueError: `matte` is not (4, h, w) float32, or there are no images of that size.

    Source: Sapiens2 matting demo: bilinear, half-pixel centres, no antialiasing, then clipped.
    """
    if matte.ndim != 3 or len(matte) != 4 or matte.dtype != np.float32:
        raise ValueError(
            f"matte must be (4, h, w) float32, got {matte.shape} {matte.dtype}; pass one image at a time"
        )
    check_size(image_hw[1], image_hw[0])
    # Apart: each result then lies in memory as its shape says.
    alpha, foreground = image_of(matte[3:], image_hw), image_of(matte[:3], image_hw)
    return alpha.clip(0, 1, out=alpha), foreground.clip(0, 1, out=foreground)


def finish(
    matte: NDArray[np.float32], finish_hw: NDArray[np.int32], _settings: StepSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Do what the ensemble's last step does: (1, 4, h, w) and the image's size to alpha and foreground."""
    height, width = finish_hw.tolist()
    return image_matte(matte[0], (height, width))
