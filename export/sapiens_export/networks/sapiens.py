"""Sapiens: a plain vision transformer and a deconvolution head, with the official parameter names.

Source: `facebookresearch/sapiens`, `pretrain/mmpretrain/models/backbones/vision_transformer.py` and the
decode heads below `seg/mmseg/models/decode_heads`. Letters in the shapes: batch B, tokens T = grid height x
grid width, token width E.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sapiens_core.recipes.recipe import PATCH_SIZE
from sapiens_export.networks.network import Network

if TYPE_CHECKING:
    from sapiens_core.recipes.recipe import HeadSpec
    from sapiens_export.networks.config import NetworkConfig

_LAYER_NORM_EPS = 1e-6
_MLP_RATIO = 4


class SapiensNetwork(Network):
    """Backbone and decode head of one task; features have no head, and a backbone with a class token.

    Args:
        config: The architecture.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        head = config.recipe.head
        self.config = config
        self.backbone = Backbone(config, has_class_token=head is None)
        self._head_name = head.name if head else ""
        if head:
            self.add_module(head.name, DecodeHead(head, config))

    @property
    def last_layers(self) -> list[nn.Module]:
        """The convolution that makes the outputs; empty: there is no head."""
        head = self.get_submodule(self._head_name) if self._head_name else None
        return [head.last_layer] if isinstance(head, DecodeHead) else []

    def forward(self, images: Tensor) -> Tensor:
        """Run the network.

        Args:
            images: (B, 3, H, W) float, RGB, normalised; H and W are multiples of the patch size.

        Returns:
            (B, C, H / stride, W / stride) float, without activation.
        """
        features = self.backbone(images)
        return self.get_submodule(self._head_name)(features) if self._head_name else features


class Backbone(nn.Module):
    """Patches to a map of features.

    Args:
        config: The architecture.
        has_class_token: A learned token stands before the patches; it takes part and is dropped at the end.
    """

    def __init__(self, config: NetworkConfig, *, has_class_token: bool) -> None:
        super().__init__()
        self.grid_hw = config.grid_hw
        self.num_extra_tokens = int(has_class_token)
        self.patch_embed = PatchEmbed(config)
        num_tokens = self.grid_hw[0] * self.grid_hw[1] + self.num_extra_tokens
        self.pos_embed = nn.Parameter(torch.zeros(1, num_tokens, config.embed_dim))
        if has_class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.layers = nn.ModuleList(
            Block(config.embed_dim, config.num_heads) for _ in range(config.num_layers)
        )
        self.ln1 = nn.LayerNorm(config.embed_dim, eps=_LAYER_NORM_EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, E, grid height, grid width) features of (B, 3, H, W) images."""
        patches = self.patch_embed(images)
        grid_hw = (patches.shape[2], patches.shape[3])
        extra, positions = self.pos_embed.tensor_split([self.num_extra_tokens], dim=1)
        tokens = patches.flatten(2).transpose(1, 2) + resized_positions(positions, self.grid_hw, grid_hw)
        if self.num_extra_tokens:
            tokens = torch.cat([(self.cls_token + extra).expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.ln1(tokens)[:, self.num_extra_tokens :].transpose(1, 2).unflatten(2, grid_hw)


class PatchEmbed(nn.Module):
    """One linear map per 16 x 16 patch, as a convolution.

    Args:
        config: The architecture.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.projection = nn.Conv2d(
            3, config.embed_dim, kernel_size=PATCH_SIZE, stride=PATCH_SIZE, padding=config.patch_padding
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, E, grid height, grid width) patch tokens of (B, 3, H, W) images."""
        return self.projection(images)


class Block(nn.Module):
    """Pre-norm transformer block.

    Args:
        embed_dim: Token width.
        num_heads: Attention heads.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(embed_dim, eps=_LAYER_NORM_EPS)
        self.attn = Attention(embed_dim, num_heads)
        self.ln2 = nn.LayerNorm(embed_dim, eps=_LAYER_NORM_EPS)
        self.ffn = FeedForward(embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, T, E) tokens for (B, T, E) tokens."""
        tokens = tokens + self.attn(self.ln1(tokens))
        return tokens + self.ffn(self.ln2(tokens))


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection laid out [query key value, head, head_dim].

    Args:
        embed_dim: Token width.
        num_heads: Attention heads.
        head_dim: Width of a head; None: as the tokens divide. Other widths leave the softmax scale as it is.
    """

    def __init__(self, embed_dim: int, num_heads: int, head_dim: int | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim or embed_dim // num_heads
        self.scale = (embed_dim // num_heads) ** -0.5
        self.qkv = nn.Linear(embed_dim, 3 * num_heads * self.head_dim)
        self.proj = nn.Linear(num_heads * self.head_dim, embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, T, E) tokens for (B, T, E) tokens."""
        qkv = self.qkv(tokens).unflatten(2, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], scale=self.scale)
        return self.proj(attended.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between; the nesting gives the official names.

    Args:
        embed_dim: Token width.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        hidden_dim = _MLP_RATIO * embed_dim
        self.layers = nn.Sequential(
            nn.Sequential(nn.Linear(embed_dim, hidden_dim), nn.GELU()), nn.Linear(hidden_dim, embed_dim)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, T, E) tokens for (B, T, E) tokens."""
        return self.layers(tokens)


class DecodeHead(nn.Module):
    """Deconvolutions, 1x1 convolutions, and one last 1x1 convolution to the outputs.

    The instance norms have no parameters and no running statistics, so each image is normalised by itself
    over its whole map.

    Args:
        head: Layout of the head.
        config: The architecture.
    """

    def __init__(self, head: HeadSpec, config: NetworkConfig) -> None:
        super().__init__()
        channels = config.head_channels
        deconv_inputs = [config.embed_dim] + [channels] * (head.num_deconvs - 1)
        self.deconv_layers = nn.Sequential(
            *(
                layer
                for width in deconv_inputs
                for layer in _normed(
                    nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1, bias=False), channels
                )
            )
        )
        self.conv_layers = nn.Sequential(
            *(
                layer
                for _ in range(head.num_convs)
                for layer in _normed(nn.Conv2d(channels, channels, 1), channels)
            )
        )
        self._last_layer = head.last_layer
        self.add_module(head.last_layer, nn.Conv2d(channels, config.num_outputs, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, h, w) outputs of (B, E, grid height, grid width) features.

        The outputs have the number format of the last layer's weights.
        """
        # One loop: a call of one group of layers would keep its input alive until the group is done, which
        # is a third of all the memory that a pass takes.
        for layer in (*self.deconv_layers, *self.conv_layers):
            features = layer(features)
        return self.last_layer(features.to(self.last_layer.weight.dtype))

    @property
    def last_layer(self) -> nn.Conv2d:
        """The convolution that makes the outputs."""
        return cast("nn.Conv2d", self.get_submodule(self._last_layer))


def _normed(convolution: nn.Module, channels: int) -> tuple[nn.Module, ...]:
    return convolution, nn.InstanceNorm2d(channels), nn.SiLU(inplace=True)


def resized_positions(positions: Tensor, grid_hw: tuple[int, int], new_grid_hw: tuple[int, int]) -> Tensor:
    """Resize a position table to another grid of patches.

    Args:
        positions: (1, T, E) float, row-major over `grid_hw`.
        grid_hw: Rows and columns that `positions` covers.
        new_grid_hw: Rows and columns wanted.

    Returns:
        (1, new T, E) float; `positions` itself if the grid is the same.

    Source: Sapiens `resize_pos_embed`: bicubic, float32, no antialiasing.
    """
    if grid_hw == new_grid_hw:
        return positions
    table = positions.float().transpose(1, 2).unflatten(2, grid_hw)
    resized = functional.interpolate(table, size=new_grid_hw, mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2).to(positions.dtype)
