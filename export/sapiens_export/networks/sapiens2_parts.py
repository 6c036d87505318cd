"""Parts of the second family's networks that are our own.

Source: `facebookresearch/sapiens2`. Letters in the shapes: batch B, token width E.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from sapiens_export.networks.sapiens2_config import MLP_RATIO

if TYPE_CHECKING:
    from sapiens_export.networks.sapiens2_config import HeadConfig

_NORM_EPS = 1e-6
_TABLE_DEVIATION = 0.02  # of tables with random weights, as of the backbone's
_NUM_PARTS = 8  # of an image's windows, which follow one another


class AlbedoHead(nn.Module):
    """Pixel-shuffle layers, convolutions and norms over channels, with the official names.

    Args:
        width: Channels of the features.
        config: The layers' widths.
    """

    def __init__(self, width: int, config: HeadConfig) -> None:
        super().__init__()
        upsampled = (width, *config.upsample_out_channels)
        convolved = (upsampled[-1], *config.conv_out_channels)
        self.input_conv = nn.Sequential(_conv(width, width), ChannelNorm(width), nn.SiLU())
        self.upsample_blocks = nn.ModuleList(
            nn.Sequential(_conv(before, 4 * after), nn.PixelShuffle(2), ChannelNorm(after), nn.SiLU())
            for before, after in pairwise(upsampled)
        )
        self.conv_layers = nn.Sequential(
            *(
                layer
                for before, after in pairwise(convolved)
                for layer in (_conv(before, after), ChannelNorm(after), nn.SiLU())
            )
        )
        self.conv_albedo = FinalConvolution(convolved[-1], 3, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, 3, 16 h, 16 w) of (B, E, h, w)."""
        features = self.input_conv(features)
        for block in self.upsample_blocks:
            features = block(features)
        return self.conv_albedo(self.conv_layers(features))


class ChannelNorm(nn.Module):
    """Root mean square norm over the channels of each pixel, in float32.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, h, w) of (B, C, h, w)."""
        return self.norm.weight.view(1, -1, 1, 1) * _normed(features, dim=1)


class WindowTokenizer(nn.Module):
    """Blocks that make one token of each window of patches: the class row, which all windows begin with.

    Modules have the official names. Windows go through the blocks a few rows of them at a time, which changes
    no value and bounds what they take. The reference takes 1,024 of a batch at a time, but a loop over a
    batch of any size could not be exported.

    Args:
        width: Of a token.
        num_heads: Attention heads per block.
        window: Patches along each side of a window.
        num_layers: Blocks.
    """

    def __init__(self, width: int, num_heads: int, window: int, num_layers: int) -> None:
        super().__init__()
        self.window = window
        self.w_cls = nn.Parameter(torch.empty(1, 1, width))
        self.local_pos_embed = nn.Parameter(torch.empty(1, 1 + window**2, width))
        self.blocks = nn.ModuleList(_WindowBlock(width, num_heads) for _ in range(num_layers))
        for table in (self.w_cls, self.local_pos_embed):
            nn.init.trunc_normal_(table, std=_TABLE_DEVIATION)

    def forward(self, patches: Tensor) -> Tensor:
        """Return (B, E, H / window, W / window) of (B, E, H, W)."""
        num_rows = ceil(patches.shape[2] / self.window / _NUM_PARTS)
        return torch.cat([self._tokens(part) for part in patches.split(num_rows * self.window, dim=2)], dim=2)

    def _tokens(self, patches: Tensor) -> Tensor:
        grid_hw = (patches.shape[2] // self.window, patches.shape[3] // self.window)
        columns = patches.unflatten(3, (grid_hw[1], self.window))
        windows = columns.unflatten(2, (grid_hw[0], self.window)).permute(0, 2, 4, 3, 5, 1)
        windows = windows.flatten(3, 4).flatten(0, 2)  # (B h w, window**2, E)
        classes = self.w_cls.expand(windows.shape[0], -1, -1)
        tokens = torch.cat([classes, windows], dim=1) + self.local_pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return tokens[:, 0].unflatten(0, (-1, *grid_hw)).permute(0, 3, 1, 2)


class _WindowBlock(nn.Module):
    """A block of the backbone without norms of queries and keys, layer scale and positions.

    Tokens are (B h w, 1 + window**2, E) here and in its parts.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.ln1, self.attn = _TokenNorm(width), _WindowAttention(width, num_heads)
        self.ln2, self.ffn = _TokenNorm(width), _GatedLayers(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.ln1(tokens))
        return tokens + self.ffn(self.ln2(tokens))


class _WindowAttention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.wq, self.wk, self.wv, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            layer(tokens).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.wq, self.wk, self.wv)
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))


class _GatedLayers(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * MLP_RATIO * width)
        self.w3 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        gates, values = self.w12(tokens).chunk(2, dim=2)
        return self.w3(functional.silu(gates) * values)


class _TokenNorm(nn.RMSNorm):
    """Root mean square norm of each token, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * _normed(x, dim=2)


class FinalConvolution(nn.Conv2d):
    """A convolution that computes in the format of its weights, whatever comes."""

    @classmethod
    def of(cls, layer: nn.Conv2d) -> FinalConvolution:
        """Take another one's weights."""
        final = cls(layer.in_channels, layer.out_channels, 1, device="meta")
        final.weight, final.bias = layer.weight, layer.bias
        return final

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, C, h, w) of (B, E, h, w)."""
        return super().forward(input.to(self.weight.dtype))


class FinalLinear(nn.Linear):
    """A linear layer that computes in the format of its weights, whatever comes."""

    @classmethod
    def of(cls, layer: nn.Linear) -> FinalLinear:
        """Take another one's weights."""
        final = cls(layer.in_features, layer.out_features, device="meta")
        final.weight, final.bias = layer.weight, layer.bias
        return final

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, 1) of (B, E)."""
        return functional.linear(input.to(self.weight.dtype), self.weight, self.bias)


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


def _normed(values: Tensor, dim: int) -> Tensor:
    """Divide by the root mean square along a dimension, in float32."""
    precise = values.float()
    scaled = precise * torch.rsqrt(precise.square().mean(dim, keepdim=True) + _NORM_EPS)
    return scaled.to(values.dtype)
