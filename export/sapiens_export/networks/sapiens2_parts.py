"""Parts of the second family's networks that are our own.

Source: `facebookresearch/sapiens2`. Letters in the shapes: batch B, token width E.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from sapiens_export.networks.sapiens2_config import HeadConfig

_NORM_EPS = 1e-6


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
        self.norm = nn.RMSNorm(width, eps=_NORM_EPS)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, h, w) of (B, C, h, w)."""
        values = features.float()
        scaled = values * torch.rsqrt(values.square().mean(1, keepdim=True) + _NORM_EPS)
        return self.norm.weight.view(1, -1, 1, 1) * scaled.to(features.dtype)


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
