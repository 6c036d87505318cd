"""Images to another size, ignoring their aspect ratio."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sapiens_core.images.opencv import resized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sapiens_core.contract.settings import Interpolation

_ANTIALIASED: Mapping[Interpolation, Image.Resampling] = MappingProxyType(
    {
        "antialiased_bilinear": Image.Resampling.BILINEAR,
        "antialiased_bicubic": Image.Resampling.BICUBIC,
    }
)


def stretched(
    image: NDArray[np.uint8], hw: tuple[int, int], interpolation: Interpolation = "bilinear"
) -> NDArray[np.uint8]:
    """Stretch an image.

    Args:
        image: (H, W, 3) uint8, in any order of colours.
        hw: Height and width of the result.
        interpolation: "bilinear" is OpenCV's, with half-pixel centres; the antialiased ones are Pillow's. Of
            two that are named, OpenCV's area average counts if the image becomes narrower; what becomes of
            its height plays no part.

    Returns:
        (height, width, 3) uint8.

    Source: Sapiens dense pipelines (bilinear) and pretraining pipeline (bicubic); Sapiens2 pipelines of
    segmentation and matting (area or another one).
    """
    if interpolation == "bilinear":
        return resized(image, hw)
    shrinking, _, growing = interpolation.partition("_or_")
    if growing:
        return resized(image, hw, shrinking if hw[1] < image.shape[1] else growing)
    return np.asarray(Image.fromarray(image).resize(hw[::-1], _ANTIALIASED[interpolation]))
