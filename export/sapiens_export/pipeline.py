"""The whole way from an image file to a result in this process: what the served ensembles must equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.image_codec import decode_bgr
from sapiens_core.postprocess.depth import image_depth
from sapiens_core.preprocess import dense_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_export.engines import Engine


def depth(encoded: bytes, engine: Engine, input_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Estimate the relative depth of every pixel.

    Args:
        encoded: The bytes of an image file.
        engine: (1, H', W', 3) uint8 RGB to (1, 1, h, w) float32.
        input_hw: Height and width of the engine's input, H' and W'.

    Returns:
        (H, W) float32; larger is farther, no unit.

    Raises:
        ValueError: The image is refused by `decode_bgr`.
    """
    image = decode_bgr(np.frombuffer(encoded, dtype=np.uint8))
    depth_map = engine(dense_pixels(image, input_hw))
    height, width, _ = image.shape
    return image_depth(depth_map[0, 0], (height, width))
