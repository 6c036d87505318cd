"""How many bytes an output has, before it is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from sapiens_core.contract.tensors import DTYPE_BYTES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sapiens_core.contract.tensors import TensorSpec

_OF_IMAGE_SIZE = (-1, -1)
_OF_NETWORK_SIZE = "h"


def num_bytes(tensor: TensorSpec, dims: Sequence[int], encoded: NDArray[np.uint8]) -> int | None:
    """Return how many bytes an output about one image has.

    Args:
        tensor: The output.
        dims: Its shape in the model's config; empty: not known.
        encoded: The image file, of shape (B,), uint8.

    Returns:
        None: Nobody knows, or the file is no image, which the server will tell.
    """
    if _OF_NETWORK_SIZE in tensor.dims:
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


def sum_of_bytes(
    tensors: Iterable[TensorSpec], dims: Mapping[str, Sequence[int]], encoded: NDArray[np.uint8]
) -> int | None:
    """Return how many bytes some outputs have together, without those of a few numbers; None: not known.

    Args:
        tensors: The outputs.
        dims: Their shapes in the model's config, by their names, as far as known.
        encoded: The image file, of shape (B,), uint8.
    """
    large = [
        tensor for tensor in tensors if _OF_NETWORK_SIZE in tensor.dims or tensor.dims[:2] == _OF_IMAGE_SIZE
    ]
    sizes = [num_bytes(tensor, dims.get(tensor.name, ()), encoded) for tensor in large]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None
