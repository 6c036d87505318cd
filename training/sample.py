"""One rendered image with its labels, as shards keep it and as training frames it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """One image and its labels.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        class_map: (H, W) uint8.
        normals: (H, W, 3) int8, unit normals times 127: x right, y up, z towards the camera; 0 outside.
        depth: (H, W) float16, metres from the person's median depth, larger is farther; 0 outside.
            Float32 once it is framed.
        keypoints: (17, 2) float32, x and y, pixels: from the image's corner as rendered, from the centre of
            its first pixel once it is framed.
    """

    image: NDArray[np.uint8]
    class_map: NDArray[np.uint8]
    normals: NDArray[np.int8]
    depth: NDArray[np.float16] | NDArray[np.float32]
    keypoints: NDArray[np.float32]


def stacked(samples: Sequence[Sample]) -> dict[str, NDArray[Any]]:
    """Return the arrays of N samples of one size by their names in `Sample`: images are (N, H, W, 3)."""
    return {
        field.name: np.stack([getattr(sample, field.name) for sample in samples]) for field in fields(Sample)
    }
