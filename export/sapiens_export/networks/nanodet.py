"""NanoDet-g, the built-in detector: one small convolutional network over three grids, here of people alone.

Source: `RangiLyu/nanodet`, configuration `nanodet-g`: backbone CustomCspNet, neck PAN, head NanoDetHead,
whose boxes follow "Generalized Focal Loss" (Li et al., 2020). Its batch norms are folded into the
convolutions, its first convolution takes RGB, and of its 80 classes only the person is left. Letters in the
shapes: batch B, cells N of all grids, each row by row, the finest grid first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sapiens_core.recipes.detectors import NUM_NANODET_CANDIDATES
from sapiens_export.networks.network import Network

STRIDES = (8, 16, 32)  # pixels of the input per cell
# What the distance of a side from its cell's center is distributed over: 0, 1, ... 10 strides.
NUM_DISTANCES = 11
# Cells below it, far from what a person scores, are no candidates: which of them come last hangs on rounding.
MIN_CANDIDATE_SCORE = 0.1
_SLOPE = 0.1
_STEM_WIDTH = 32
_BLOCKS = ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 3, 2))  # width, residual blocks, stride; out: 2 x width
_WIDTH = 128  # of neck and head


class NanoDet(Network):
    """The network without its decoding, see `CandidateReduction`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, _STEM_WIDTH, stride=2)
        self.blocks = nn.ModuleList(CspBlock(*block) for block in _BLOCKS)
        self.laterals = nn.ModuleList(nn.Conv2d(2 * width, _WIDTH, 1) for width, _, _ in _BLOCKS[-3:])
        self.heads = nn.ModuleList(Head() for _ in STRIDES)

    @property
    def last_layers(self) -> list[nn.Module]:
        """The convolutions that make the outputs, one for each grid."""
        return [head.get_submodule("out") for head in self.heads]

    def forward(self, images: Tensor) -> Tensor:
        """Run the network.

        Args:
            images: (B, 3, H, W) float, RGB, normalised; H and W are multiples of 32.

        Returns:
            (B, 1 + 4 * NUM_DISTANCES, N) float: of each cell the logit of a person, then those of the
            distances of a box's left, top, right and bottom side.
        """
        features = functional.max_pool2d(self.stem(images), 3, stride=2, padding=1)
        maps = []
        for block in self.blocks:
            features = block(features)
            maps.append(features)
        grids = _aggregated([lateral(each) for lateral, each in zip(self.laterals, maps[1:], strict=True)])
        outputs = [head(grid).flatten(2) for head, grid in zip(self.heads, grids, strict=True)]
        return torch.cat(outputs, dim=2)


def _aggregated(laterals: list[Tensor]) -> list[Tensor]:
    """Let what the coarse grids know reach the fine ones, and what these then know the coarse ones."""
    fine, middle, coarse = laterals
    middle = middle + _doubled(coarse)
    fine = fine + _doubled(middle)
    middle = middle + functional.avg_pool2d(fine, 2)  # what bilinear interpolation to half the size is
    coarse = coarse + functional.avg_pool2d(middle, 2)
    return [fine, middle, coarse]


def _doubled(grid: Tensor) -> Tensor:
    return functional.interpolate(grid, scale_factor=2.0, mode="bilinear", align_corners=False)


class Convolution(nn.Module):
    """A 3 x 3 convolution and its activation.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        stride: Pixels in per pixel out.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, out, h / stride, w / stride) of (B, in, h, w)."""
        return functional.leaky_relu(self.conv(features), _SLOPE)


class CspBlock(nn.Module):
    """Residual blocks beside a way around them ("cross stage partial"), which doubles the channels.

    Args:
        width: Channels in.
        num_residuals: Blocks one after the other.
        stride: Pixels in per pixel out.
    """

    def __init__(self, width: int, num_residuals: int, stride: int) -> None:
        super().__init__()
        self.in_conv = Convolution(width, width, stride)
        self.residuals = nn.Sequential(*(ResidualBlock(width) for _ in range(num_residuals)))
        self.out_conv = Convolution(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, 2 * width, h / stride, w / stride) of (B, width, h, w)."""
        around = self.in_conv(features)
        return torch.cat([self.out_conv(self.residuals(around)), around], dim=1)


class ResidualBlock(nn.Module):
    """Two convolutions of half the width, whose outputs stand side by side.

    Args:
        width: Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_conv = Convolution(width, width // 2)
        self.mid_conv = Convolution(width // 2, width // 2)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, width, h, w) of (B, width, h, w)."""
        first = self.in_conv(features)
        return torch.cat([self.mid_conv(first), first], dim=1)


class Head(nn.Module):
    """What one grid says about its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = Convolution(_WIDTH, _WIDTH)
        self.out = nn.Conv2d(_WIDTH, 1 + 4 * NUM_DISTANCES, 1)

    def forward(self, grid: Tensor) -> Tensor:
        """Return (B, 1 + 4 * NUM_DISTANCES, h, w) of (B, width, h, w), in the format of the last weights."""
        return self.out(self.conv(grid).to(self.out.weight.dtype))


class CandidateReduction(nn.Module):
    """The most certain cells as boxes: a tenth of the bytes, and nothing left to know about the network.

    Boxes of the same person are not merged; `sapiens_core.finish.detect` does that for every detector.

    Args:
        input_hw: Height and width of the network's input.
    """

    centers: Tensor
    strides: Tensor
    steps: Tensor

    def __init__(self, input_hw: tuple[int, int]) -> None:
        super().__init__()
        centers, strides = zip(*(_grid(input_hw, stride) for stride in STRIDES), strict=True)
        self.register_buffer("centers", torch.cat(centers), persistent=False)
        self.register_buffer("strides", torch.cat(strides), persistent=False)
        self.register_buffer("steps", torch.arange(NUM_DISTANCES, dtype=torch.float32), persistent=False)

    def forward(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the network's outputs.

        Args:
            outputs: (B, 1 + 4 * NUM_DISTANCES, N) float32.

        Returns:
            candidate_bboxes: (B, C, 4) float32, xyxy, pixels of the input; zero beyond the last one.
            candidate_scores: (B, C) float32, 0 to 1, the best first.
        """
        logits, cells = outputs[:, 0].topk(NUM_NANODET_CANDIDATES, dim=1)
        scores = logits.sigmoid()
        chosen = outputs[:, 1:].gather(2, cells[:, None].expand(-1, outputs.shape[1] - 1, -1))
        shares = chosen.unflatten(1, (4, NUM_DISTANCES)).softmax(dim=2)
        distances = torch.einsum("bsdc,d->bcs", shares, self.steps) * self.strides[cells][:, :, None]
        signs = torch.cat([-distances[:, :, :2], distances[:, :, 2:]], dim=2)
        bboxes = self.centers[cells].tile(1, 1, 2) + signs
        is_candidate = scores >= MIN_CANDIDATE_SCORE
        return bboxes * is_candidate[:, :, None], scores * is_candidate


def _grid(input_hw: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    """Return the centers (n, 2), x and y in pixels of the input, and the strides (n,) of a grid's cells."""
    rows, columns = (torch.arange(side // stride, dtype=torch.float32) for side in input_hw)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centers = (torch.stack([x.flatten(), y.flatten()], dim=1) + 0.5) * stride
    return centers, torch.full((len(centers),), float(stride))
