"""Pairs between two groups that are the most alike in sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def best_pairs(likeness: NDArray[np.float32], lowest: float) -> NDArray[np.intp]:
    """Pair rows with columns, each once at most, so that the likeness of all pairs together is greatest.

    Args:
        likeness: (M, N) float32, 0 or more; NaN can be no pair.
        lowest: Pairs below it are none.

    Returns:
        (P, 2) row and column of every pair, by row.
    """
    usable = np.nan_to_num(likeness.astype(np.float64), nan=0.0)
    usable[usable < lowest] = 0  # a pair of no worth: whoever has it stays alone
    is_wide = usable.shape[0] <= usable.shape[1]
    columns = _assigned(-usable if is_wide else -usable.T)
    rows = np.arange(len(columns))
    pairs: NDArray[np.intp] = np.stack([rows, columns] if is_wide else [columns, rows], axis=1)
    pairs = pairs[usable[pairs[:, 0], pairs[:, 1]] > 0]
    by_row: NDArray[np.intp] = pairs[np.argsort(pairs[:, 0])]
    return by_row


def _assigned(costs: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the column of every row, (M,) of (M, N) with M <= N, that costs the least in sum.

    Source: the Hungarian method with potentials; a row is added at a time along the cheapest path of swaps.
    """
    num_rows, num_columns = costs.shape
    of_rows, of_columns = np.zeros(num_rows + 1), np.zeros(num_columns + 1)
    owner = np.full(num_columns + 1, num_rows)  # row of each column; the last column is where a path starts
    for row in range(num_rows):
        owner[-1] = row
        column = num_columns
        cheapest = np.full(num_columns, np.inf)
        before = np.full(num_columns, num_columns)
        is_done = np.zeros(num_columns + 1, dtype=bool)
        while owner[column] < num_rows:
            is_done[column] = True
            reduced = costs[owner[column]] - of_rows[owner[column]] - of_columns[:-1]
            is_better = ~is_done[:-1] & (reduced < cheapest)
            cheapest[is_better] = reduced[is_better]
            before[is_better] = column
            nearest = int(np.where(is_done[:-1], np.inf, cheapest).argmin())
            step = cheapest[nearest]
            of_rows[owner[is_done]] += step
            of_columns[is_done] -= step
            cheapest[~is_done[:-1]] -= step
            column = nearest
        while column < num_columns:
            owner[column] = owner[before[column]]
            column = int(before[column])
    columns = np.empty(num_rows, np.intp)
    taken = np.flatnonzero(owner[:-1] < num_rows)
    columns[owner[taken]] = taken
    return columns
