"""The fixed images that engines and networks are compared on."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def parity_pixels(input_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Make the fixed images: a portrait, and coarse blobs with noise.

    Args:
        input_hw: Height and width.

    Returns:
        (2, H, W, 3) uint8, RGB.
    """
    height, width = input_hw
    with as_file(files("sapiens_export") / "data" / "portrait.jpg") as path:
        portrait = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, size=(8, 6, 3), dtype=np.uint8)
    blobs = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(-32, 33, size=blobs.shape, dtype=np.int16)
    blobs_with_noise = np.clip(blobs + noise, 0, 255).astype(np.uint8)
    return np.stack([cv2.resize(portrait, (width, height)), blobs_with_noise])
