"""The position table of a checkpoint, brought to the input of the network that is made of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from sapiens_core.recipes.recipe import PATCH_SIZE
from sapiens_export.networks.sapiens import resized_positions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from sapiens_export.networks.config import NetworkConfig

POSITIONS = "backbone.pos_embed"


def fitted_positions(config: NetworkConfig, weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the position table at the network's size, if it has to be changed.

    A table does not tell of which input it is: landscapes have as many patches as portraits. Where the
    network's description does not say, a table that fits stays as it is, and any other is taken for a
    released network's.

    Args:
        config: The network.
        weights: Official names to tensors, the table (1, tokens, width).
        source: What to call the weights in errors.

    Returns:
        The table by its name; nothing where it stays, or where there is none.

    Raises:
        ValueError: It is for another number of patches than is said, or than a released network's.
    """
    positions = weights.get(POSITIONS)
    if positions is None or positions.ndim != 3:
        return {}
    num_extra = int(config.recipe.head is None)  # the class token, in front
    num_patches = positions.shape[1] - num_extra
    if config.position_hw is None and num_patches == math.prod(config.grid_hw):
        return {}
    trained_hw = config.position_hw or config.recipe.network_hw
    grid_hw = (trained_hw[0] // PATCH_SIZE, trained_hw[1] // PATCH_SIZE)
    if num_patches != math.prod(grid_hw):
        own, trained = math.prod(config.grid_hw), math.prod(grid_hw)
        raise ValueError(
            f"{POSITIONS} of {source} must be for the {trained} patches of an input of {trained_hw}, or for "
            f"this network's {own}, got {num_patches}; describe the network with --network, and say as "
            '"position_hw" which input the table is for'
        )
    extra, patches = positions.tensor_split([num_extra], dim=1)
    return {POSITIONS: torch.cat([extra, resized_positions(patches, grid_hw, config.grid_hw)], dim=1)}
