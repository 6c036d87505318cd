"""Some of several persons or boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sapiens_client.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rows: TypeAlias = "slice | NDArray[np.bool_] | NDArray[np.integer[Any]] | Sequence[int] | Sequence[bool]"
"""Which of several: a mask with as many values, indices, or a slice."""


def picked(which: Rows, num_rows: int) -> NDArray[np.intp]:
    """Return the indices of the rows that are meant, of shape (n,).

    Raises:
        InvalidInputError: `which` is no mask of `num_rows` values, no indices of them, and no slice.
    """
    every = np.arange(num_rows)
    try:
        rows = every[np.zeros(0, np.intp) if isinstance(which, list) and not which else which]
    except (IndexError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"which must be an index, a slice, indices or a mask of {num_rows}, got {which!r:.80}: {error}"
        ) from error
    if rows.ndim != 1:
        raise InvalidInputError(
            f"which must have one axis, got {which!r:.80}; pass a mask ({num_rows},) or indices"
        )
    return rows
