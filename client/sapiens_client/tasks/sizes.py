"""How many bytes an output has, before it is there."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from sapiens_core.contract.tensors import DTYPE_BYTES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sapiens_core.contract.tensors import TensorSpec

_OF_IMAGE_SIZE = (-1, -1)
_OF_NETWORK_SIZE = ("C", "h", "w")


def num_bytes(tensor: TensorSpec, dims: Sequence[int], encoded: NDArray[np.uint8]) -> int | None:
    """Return how many bytes an output about one image has.

    Args:
        tensor: The output.
        dims: Its shape in the model's config; empty: not known.
        encoded: (B,) uint8, the image file.

    Returns:
        None: Nobody knows, or the file is no image, which the server will tell.
    """
    if tensor.dims == _OF_NETWORK_SIZE:
        is_known = bool(dims) and min(dims[1:]) > 0
        return DTYPE_BYTES[tensor.dtype] * prod(dims[1:]) if is_known else None
    if tensor.dims[:2] != _OF_IMAGE_SIZE:
        return None
    from sapiens_core.images.header import num_pixels  # here, because it loads Pillow

    per_pixel = prod(side for side in tensor.dims[2:] if isinstance(side, int))
    try:
        return DTYPE_BYTES[tensor.dtype] * per_pixel * num_pixels(encoded)
    except ValueError:
        return None
