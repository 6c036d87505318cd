"""Positions as the second family's reference codes them by default: rounded to bfloat16 in every block.

What is served codes them in float32. With this in its place, whatever else differs from the reference shows.
Source: `facebookresearch/sapiens2`, the standalone backbone: coordinates, periods, angles and their sines are
bfloat16, and so are queries and keys of all tokens while they are rotated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.models.sapiens2 import modeling_sapiens2 as theirs

if TYPE_CHECKING:
    import pytest

DTYPE = torch.bfloat16


def periods(head_dim: int) -> Tensor:
    """Return (head_dim / 4,) bfloat16."""
    exponents = 2 * torch.arange(head_dim // 4, dtype=DTYPE) / (head_dim // 2)
    return torch.tensor(100, dtype=DTYPE) ** exponents


def angles(num_patches: int, head_dim: int) -> Tensor:
    """Return (num_patches, head_dim / 4) bfloat16: of every row, or of every column."""
    coordinates = 2 * (torch.arange(0.5, num_patches, dtype=DTYPE) / num_patches) - 1
    return 2 * math.pi * coordinates[:, None] / periods(head_dim)


def _tables(module: theirs.Sapiens2RopePositionEmbedding, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = (angles(side // 16, module.head_dim) for side in pixel_values.shape[2:])
    grid = (len(rows), len(columns), -1)
    both = torch.cat([rows[:, None].expand(grid), columns[None].expand(grid)], dim=2)
    turned = both.flatten(0, 1).tile(2)
    return turned.cos(), turned.sin()


def _rotated(queries: Tensor, keys: Tensor, cos: Tensor, sin: Tensor, **_: object) -> tuple[Tensor, Tensor]:
    def turn(tokens: Tensor) -> Tensor:
        rounded = tokens.to(DTYPE)
        first, patches = rounded.split((rounded.shape[2] - len(cos), len(cos)), dim=2)
        patches = patches * cos + theirs.rotate_half(patches) * sin
        return torch.cat([first, patches], dim=2).to(tokens.dtype)

    return turn(queries), turn(keys)


def round_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks of transformers do as the reference does."""
    monkeypatch.setattr(theirs.Sapiens2RopePositionEmbedding, "forward", _tables)
    monkeypatch.setattr(theirs, "apply_rotary_pos_emb", _rotated)
