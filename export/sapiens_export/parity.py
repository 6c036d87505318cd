"""Engine against float32 reference: the same fixed pixels through both, and how far they are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sapiens_export.engines import Engine


@dataclass(frozen=True)
class ParityReport:
    """How far an engine is from the float32 network.

    Attributes:
        num_images: Images compared.
        reference_range: Largest minus smallest value of each of the reference's outputs.
        max_error: Largest absolute difference in any output, as a share of its range.
        mean_error: Largest mean absolute difference of an output, as a share of its range.
        tolerance: Largest allowed `max_error`.
    """

    num_images: int
    reference_range: tuple[float, ...]
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
        engine: (B, H, W, 3) uint8 RGB to arrays with a batch axis.
        reference: The same in float32.
        input_hw: Height and width of the input.
        tolerance: Largest allowed difference, as a share of the reference's range.

    Raises:
        ValueError: The engine returns other shapes than the reference.
    """
    pixels = parity_pixels(input_hw)
    answers = [reference(image[None]) for image in pixels]
    expected, seen = _joined([*answers, answers[0]]), _joined([engine(pixels), engine(pixels[:1])])
    _check_shapes(expected, seen)
    ranges = [float(np.ptp(output)) for output in expected]
    errors = [
        np.abs(output - wanted) / (value_range or 1)
        for output, wanted, value_range in zip(seen, expected, ranges, strict=True)
    ]
    return ParityReport(
        num_images=len(pixels),
        reference_range=tuple(ranges),
        max_error=float(np.max([error.max() for error in errors])),
        mean_error=float(np.max([error.mean() for error in errors])),
        tolerance=tolerance,
    )


def _check_shapes(expected: Sequence[NDArray[Any]], seen: Sequence[NDArray[Any]]) -> None:
    wanted, got = ([output.shape for output in outputs] for outputs in (expected, seen))
    if got != wanted:
        raise ValueError(
            f"engine must return the shapes of the float32 network, {wanted}, got {got}; "
            "nothing was installed"
        )


def in_order_of(reference: Engine, engine: Engine) -> Engine:
    """Return an engine that puts its rows into the order of another one's.

    For outputs that are a set of rows, such as boxes: rounding may swap two of them, which changes nothing.

    Args:
        reference: (B, H, W, 3) uint8 RGB to arrays of (B, rows, ...).
        engine: The same; each row of the reference is answered with the most similar one of this engine.
    """

    def run(pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        outputs = engine(pixels)
        rows, expected = _rows(outputs), _rows(reference(pixels))
        nearest = np.abs(expected[:, :, None] - rows[:, None]).max(axis=3).argmin(axis=2)
        images = np.arange(len(pixels))[:, None]
        return tuple(output[images, nearest] for output in outputs)

    return run


def _rows(outputs: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Put what belongs to one row side by side, each output as a share of its range: (B, rows, numbers)."""
    columns = [output.reshape(*output.shape[:2], -1).astype(np.float64) for output in outputs]
    return np.concatenate([column / (np.ptp(column) or 1) for column in columns], axis=2)


def _joined(answers: Sequence[Sequence[NDArray[Any]]]) -> list[NDArray[np.float64]]:
    return [np.concatenate(outputs).astype(np.float64) for outputs in zip(*answers, strict=True)]


def parity_pixels(input_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Make the fixed images: coarse blobs, and noise.

    Args:
        input_hw: Height and width.

    Returns:
        (2, H, W, 3) uint8, RGB.
    """
    height, width = input_hw
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, size=(8, 6, 3), dtype=np.uint8)
    blobs = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    return np.stack([blobs, noise])
