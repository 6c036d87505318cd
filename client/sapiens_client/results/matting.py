"""Persons cut out of their surroundings, and the colours of their surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_client.results.base import Result, drawn, full, given_mask, pixels_hw
from sapiens_client.results.saving import (
    ONE_ARRAY,
    SEVERAL_ARRAYS,
    Format,
    Writer,
    png,
    write_bytes,
    write_exr,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

Background: TypeAlias = "tuple[int, int, int] | NDArray[np.uint8] | Image"
"""RGB in 0..255, (H, W, 3) uint8 RGB, or a PIL image as large as the other."""

REFERENCE_GREEN = (0, 177, 64)


@dataclass(frozen=True, eq=False, kw_only=True)
class MattingResult(Result):
    """How much of every pixel belongs to persons, and their colours there.

    Its arrays are read-only and may be unaligned views of the reply; `.copy()` gives aligned writable ones.

    Attributes:
        alpha: (H, W) float32, 0..1: share of the pixel.
        foreground: (H, W, 3) float32, RGB 0..1, premultiplied: the colour of the persons there, times alpha.
            Over another background it is `foreground + (1 - alpha) * background`.
    """

    alpha: NDArray[np.float32] = field(repr=False)
    foreground: NDArray[np.float32] = field(repr=False)

    writers: ClassVar[Mapping[Format, Writer]] = MappingProxyType(
        {
            **SEVERAL_ARRAYS,
            Format.CUTOUT: lambda result, path, _: write_bytes(png(result.cutout()), path),
            Format.EXR: lambda result, path, _: write_exr(
                dict(zip("RGBA", [*np.moveaxis(result.foreground, 2, 0), result.alpha], strict=True)), path
            ),
        }
    )

    beside: ClassVar[frozenset[str]] = frozenset({"encoded_image"})

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the image, upright, in pixels."""
        return pixels_hw(self.alpha)

    def plot(self) -> Image:
        """Draw the persons before the reference's green."""
        return self.composite(REFERENCE_GREEN)

    def cutout(self) -> Image:
        """Return the persons as an RGBA picture with straight alpha, as PNG and most programs have it."""
        from sapiens_core.pictures import cutout_picture

        return drawn(cutout_picture, full(self.alpha), full(self.foreground))

    def composite(self, background: Background) -> Image:
        """Put the persons before another background.

        Args:
            background: RGB in 0..255, such as (255, 255, 255), an (H, W, 3) uint8 RGB array or a PIL image.

        Returns:
            RGB, as large as the image.

        Raises:
            InvalidInputError: The background is neither, or of another size.
        """
        from sapiens_core.pictures import composite_picture

        try:
            convert = getattr(background, "convert", None)
            colors = np.asarray(convert("RGB") if callable(convert) else background)
        except (ValueError, TypeError) as error:
            raise InvalidInputError(f"background must be a picture, got {background!r:.80}") from error
        return drawn(composite_picture, full(self.alpha), full(self.foreground), colors)


@dataclass(frozen=True, eq=False, kw_only=True)
class AlbedoResult(Result):
    """Colour of every pixel's surface, without light and shadow.

    Its array is read-only and may be an unaligned view of the reply; `.copy()` gives an aligned writable one.

    Attributes:
        albedo: (H, W, 3) uint8, RGB.
        foreground: (H, W) bool, where a person is; None: not known. `analyze` tells it where it was asked for
            classes too.
    """

    albedo: NDArray[np.uint8] = field(repr=False)
    foreground: NDArray[np.bool_] | None = field(default=None, repr=False)

    writers: ClassVar[Mapping[Format, Writer]] = ONE_ARRAY

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the image, upright, in pixels."""
        return pixels_hw(self.albedo)

    def plot(self, foreground: NDArray[np.bool_] | None = None) -> Image:
        """Return the colours as a picture, like the reference.

        Args:
            foreground: (H, W) bool; the rest is grey. None: that of the result, or all.

        Raises:
            InvalidInputError: `foreground` has another shape than the image.
        """
        from sapiens_core.pictures import albedo_picture

        return drawn(albedo_picture, self.albedo, given_mask(foreground, self.foreground))
