"""The generations of released models: their backbones and the licence of their weights.

Source: `facebookresearch/sapiens`, model classes and licence of the first release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class SizeSpec:
    """Width and depth of a released backbone.

    Attributes:
        embed_dim: Token width.
        num_layers: Transformer blocks.
        num_heads: Attention heads per block.
    """

    embed_dim: int
    num_layers: int
    num_heads: int


@dataclass(frozen=True)
class FamilySpec:
    """One generation of released models.

    Attributes:
        licence: Licence of the published weights.
        sizes: Released backbones by name.
    """

    licence: str
    sizes: Mapping[str, SizeSpec]


FAMILIES: Mapping[str, FamilySpec] = MappingProxyType(
    {
        "sapiens": FamilySpec(
            licence="CC-BY-NC-4.0",
            sizes=MappingProxyType(
                {
                    "0.3b": SizeSpec(embed_dim=1024, num_layers=24, num_heads=16),
                    "0.6b": SizeSpec(embed_dim=1280, num_layers=32, num_heads=16),
                    "1b": SizeSpec(embed_dim=1536, num_layers=40, num_heads=24),
                    "2b": SizeSpec(embed_dim=1920, num_layers=48, num_heads=32),
                }
            ),
        ),
    }
)
