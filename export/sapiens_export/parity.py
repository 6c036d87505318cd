"""Engine against float32 reference: the same fixed pixels through both, and how far they are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_export.engines import Engine


@dataclass(frozen=True)
class ParityReport:
    """How far an engine is from the float32 network.

    Attributes:
        num_images: Images compared.
        reference_range: Largest minus smallest value of the reference.
        max_error: Largest absolute difference, as a share of `reference_range`.
        mean_error: Mean absolute difference, as a share of `reference_range`.
        tolerance: Largest allowed `max_error`.
    """

    num_images: int
    reference_range: float
    max_error: float
    mean_error: float
    tolerance: float

    @property
    def is_passed(self) -> bool:
        """The engine may be installed. A NaN anywhere makes this false."""
        return self.max_error <= self.tolerance


def parity(engine: Engine, reference: Engine, input_hw: tuple[int, int], *, tolerance: float) -> ParityReport:
    """Compare an engine with the network it was made from, alone and in a batch.

    Args:
        engine: (B, H, W, 3) uint8 RGB to (B, C, h, w) float32.
        reference: The same in float32.
        input_hw: Height and width of the input.
        tolerance: Largest allowed difference, as a share of the reference's range.
    """
    pixels = parity_pixels(input_hw)
    expected = np.concatenate([reference(image[None]) for image in pixels])
    alone = np.concatenate([engine(image[None]) for image in pixels])
    errors = np.stack([np.abs(alone - expected), np.abs(engine(pixels) - expected)])
    value_range = float(np.ptp(expected))
    scale = value_range or 1.0
    return ParityReport(
        num_images=len(pixels),
        reference_range=value_range,
        max_error=float(errors.max()) / scale,
        mean_error=float(errors.mean()) / scale,
        tolerance=tolerance,
    )


def parity_pixels(input_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Make the fixed images: smooth shades, coarse blobs, and noise.

    Args:
        input_hw: Height and width.

    Returns:
        (3, H, W, 3) uint8, RGB.
    """
    height, width = input_hw
    rng = np.random.default_rng(0)
    rows, columns = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)[None]
    shades = np.stack(np.broadcast_arrays(rows, columns, (rows + columns) / 2), axis=2).astype(np.uint8)
    coarse = rng.integers(0, 256, size=(8, 6, 3), dtype=np.uint8)
    blobs = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    return np.stack([shades, blobs, noise])
