"""What the float32 network answers to the fixed images, kept beside the engine.

So whoever has the repository can compare again, on the machine that will serve it and without the checkpoint.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sapiens_export.parity.images import parity_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sapiens_core.recipes.recipe import Recipe
    from sapiens_export.engines.engine import Engine

    Outputs = Sequence[NDArray[Any]]

REFERENCE_FILE = "parity.npz"
_PIXELS = "pixels"


@dataclass(frozen=True)
class Reference:
    """What the float32 network answers to the fixed images.

    Attributes:
        recipe: Of its task and family.
        pixels: (B, H, W, 3) uint8, RGB: the images.
        outputs: Its outputs in the order of the recipe, B first.
        output_hw: Height and width of the network's output.
    """

    recipe: Recipe
    pixels: NDArray[np.uint8]
    outputs: Outputs
    output_hw: tuple[int, int]

    def save(self, path: Path) -> None:
        """Write the images and the outputs, by the names of their tensors."""
        names = [tensor.name for tensor in self.recipe.engine.outputs]
        arrays = dict(zip(names, self.outputs, strict=True))
        with path.open("wb") as file:
            np.savez_compressed(file, **{_PIXELS: self.pixels, **arrays})

    @classmethod
    def load(cls, path: Path, recipe: Recipe, output_hw: tuple[int, int]) -> Reference:
        """Read what `save` wrote.

        Raises:
            ValueError: The file is missing or damaged.
        """
        names = [tensor.name for tensor in recipe.engine.outputs]
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                pixels, outputs = arrays[_PIXELS], [arrays[name] for name in names]
                lengths = {len(each) for each in (pixels, *outputs)}
                if pixels.ndim != 4 or len(lengths) != 1 or 0 in lengths:
                    raise ValueError(f"it holds {pixels.shape} pixels and {[each.shape for each in outputs]}")
                return cls(recipe, pixels, outputs, output_hw)
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} must hold the float32 network's outputs, and cannot be read: {error}; "
                "export the engine again"
            ) from error


def reference(
    recipe: Recipe, network: Engine, input_hw: tuple[int, int], output_hw: tuple[int, int]
) -> Reference:
    """Ask a float32 network about the fixed images, one at a time.

    Args:
        recipe: Of its task and family.
        network: (B, H, W, 3) uint8 RGB to arrays with a batch axis.
        input_hw: Height and width of its input.
        output_hw: Height and width of its output.
    """
    pixels = parity_pixels(input_hw)
    answers = [network(image[None]) for image in pixels]
    return Reference(
        recipe, pixels, [np.concatenate(parts) for parts in zip(*answers, strict=True)], output_hw
    )
