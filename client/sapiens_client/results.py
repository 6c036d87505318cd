"""What the client's methods return: arrays, where they come from, and how to look at and keep them."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_core.model_info import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

_MAX_UINT16 = 2**16 - 1


@dataclass(frozen=True)
class Timing:
    """Where the time of a call went, and what travelled.

    Attributes:
        total_s: The whole call, with the question for the model's origin that the first call asks. [s]
        prepare_s: From the image as passed to the bytes of an image file. [s]
        request_s: From sending these bytes to having the result's arrays. [s]
        request_bytes: Size of the request.
        response_bytes: Size of the reply.
    """

    total_s: float
    prepare_s: float
    request_s: float
    request_bytes: int
    response_bytes: int


@dataclass(frozen=True, eq=False)
class DepthResult:
    """Relative depth of every pixel.

    Attributes:
        depth: (H, W) float32, relative; larger is farther. A read-only view of the reply.
        model: Origin and kind of the network; `model.untrained` says that the depth means nothing.
        timing: Where the time went.
    """

    depth: NDArray[np.float32] = field(repr=False)
    model: ModelInfo
    timing: Timing

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the image, upright, in pixels."""
        height, width = self.depth.shape
        return height, width

    def plot(self, foreground: NDArray[np.bool_] | None = None) -> Image:
        """Draw the depth in the colours of the reference: inferno, near is bright.

        Args:
            foreground: (H, W) bool; the colours span the depths inside it, the rest is grey. None: all.

        Raises:
            InvalidInputError: `foreground` has another shape than the depth.
        """
        import PIL.Image

        from sapiens_core.visualize import depth_picture

        mask = None if foreground is None else np.asarray(foreground, dtype=bool)
        try:
            return PIL.Image.fromarray(depth_picture(self.depth, mask))
        except ValueError as error:
            raise InvalidInputError(str(error)) from error

    def save(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write the depth to a file whose name says how.

        Args:
            path: `*.png` is a picture for people, `*.npy` the float32 array, `*.16.png` a 16-bit grey picture
                with a `*.16.json` beside it that holds `offset` and `scale`: depth = offset + scale * value.

        Returns:
            The files written.

        Raises:
            InvalidInputError: The name ends otherwise, or the depth is not finite and 16 bits cannot hold it.
            OSError: The file cannot be written.
        """
        path = Path(path)
        name = path.name.lower()
        if name.endswith(".16.png"):
            return _save_png16(self.depth, path)
        if name.endswith(".png"):
            path.write_bytes(_png(self.plot()))
        elif name.endswith(".npy"):
            with path.open("wb") as file:
                np.save(file, self.depth)
        else:
            raise InvalidInputError(
                f"file name must end in .png (picture), .npy (float32) or .16.png (16 bit), got {path.name!r}"
            )
        return (path,)

    def _repr_png_(self) -> bytes:
        return _png(self.plot())


def _save_png16(values: NDArray[np.float32], path: Path) -> tuple[Path, ...]:
    """Write (H, W) float32 as 16-bit grey that spans exactly the range of the values."""
    import PIL.Image

    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite(highest - lowest):
        raise InvalidInputError(
            f"depth must be finite to fit 16 bits, got {lowest} to {highest}; save it as .npy"
        )
    scale = (highest - lowest) / _MAX_UINT16 or 1.0
    levels = np.rint((values.astype(np.float64) - lowest) / scale).astype(np.uint16)
    path.write_bytes(_png(PIL.Image.fromarray(levels)))
    sidecar = path.with_suffix(".json")
    sidecar.write_text(json.dumps({"scale": scale, "offset": lowest}) + "\n", encoding="utf-8")
    return path, sidecar


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    # The lowest level takes a quarter of the default's time for a third more bytes.
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
