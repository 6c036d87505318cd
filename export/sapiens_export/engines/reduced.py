"""The network as it is served: uint8 pixels in, reduced results out."""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import TYPE_CHECKING

import cv2
import torch
from torch import Tensor, nn
from torch.nn import functional

from sapiens_core.contract.tensors import PEAK_PATCH
from sapiens_export.networks.nanodet import CandidateReduction
from sapiens_export.networks.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sapiens_core.contract.engines import Precision
    from sapiens_core.recipes.recipe import Normalization, Recipe

DTYPES: Mapping[Precision, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
)
_BLUR_TAPS = PEAK_PATCH - 2
_MARGIN_RANGES = (1e-4, 65504.0)  # that float16 holds with all its digits


class ServedNetwork(nn.Module):
    """A network between its normalisation and its reduction, so that few bytes travel to it and from it.

    Args:
        network: (B, 3, H, W) float, normalised RGB, to (B, C, h, w), or (B, C, cells) of a detector; to a
            tuple where the recipe's engine has several outputs and no reduction.
        normalization: Statistics it was trained with.
        recipe: Of its task and family, which decides on the reduction: logits leave as float16 or as
            margins, heatmaps as their peaks, a detector's cells as boxes.
        precision: What the network computes in, from its first layer to the one before the last. The
            normalisation, the last layer, the flip test's mean and the reduction stay float32: where outputs
            leave in eight bits, a slope becomes steps.
        flip_indices: The channel that each heatmap has in a mirrored image. Given: the network sees every
            image mirrored too, in the same batch, and the heatmaps are averaged (the reference's flip test).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        normalization: Normalization,
        recipe: Recipe,
        *,
        precision: Precision = "float32",
        flip_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.compute_dtype = DTYPES[precision]
        if precision != "float32":
            network = _in_precision(network, self.compute_dtype)
        self.network = network if flip_indices is None else FlipAveraged(network, flip_indices)
        self.reduction = _reduction(recipe)
        self.dtype = torch.float16 if recipe.engine.outputs[0].dtype == "FP16" else torch.float32
        self.register_buffer("mean", torch.tensor(normalization.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalization.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the network on raw pixels.

        Args:
            pixels: (B, H, W, 3) uint8, RGB.

        Returns:
            The engine's outputs as its recipe lists them, batch first.
        """
        if torch.compiler.is_exporting():  # TensorRT takes bytes, but can only cast them
            images = pixels.float().permute(0, 3, 1, 2)
        else:  # channels are moved while they are still bytes: half the time of moving them as floats
            images = pixels.permute(0, 3, 1, 2).contiguous().float()
        outputs = self.network(((images - self.mean) / self.std).to(self.compute_dtype))
        if isinstance(outputs, tuple):
            return tuple(output.to(self.dtype).contiguous() for output in outputs)
        # Contiguous: what is read out of a transposed map is copied by whoever passes it on, on a GPU too.
        return self.reduction(outputs.float()) if self.reduction else outputs.to(self.dtype).contiguous()


def _reduction(recipe: Recipe) -> nn.Module | None:
    match recipe.reduction:
        case "candidates":
            return CandidateReduction(recipe.network_hw)
        case "peaks":
            return PoseReduction()
        case "margins":
            return MarginReduction()
        case "map":
            return None


def _in_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a network with weights of another type, but for those that it keeps.

    The weights are not copied before that.
    """
    kept = {id(tensor) for tensor in network.kept_tensors} if isinstance(network, Network) else set()
    tensors = [*network.parameters(), *network.buffers()]
    tensors = [tensor for tensor in tensors if id(tensor) not in kept]
    cast = {id(tensor): tensor.detach().to(dtype) for tensor in tensors if tensor.is_floating_point()}
    memo = {
        key: nn.Parameter(cast[key], requires_grad=False) if isinstance(tensor, nn.Parameter) else cast[key]
        for tensor in tensors
        if (key := id(tensor)) in cast
    }
    return copy.deepcopy(network, memo)


class FlipAveraged(nn.Module):
    """The mean of a network's heatmaps of an image and of its mirror image.

    Args:
        network: (B, 3, H, W) to (B, K, h, w).
        flip_indices: The channel that each heatmap has in a mirrored image.
    """

    flip_indices: Tensor

    def __init__(self, network: nn.Module, flip_indices: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("flip_indices", torch.tensor(flip_indices), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, K, h, w) heatmaps of (B, 3, H, W) images."""
        heatmaps = self.network(torch.cat([images, images.flip(3)]))
        # Not chunk(2), which would write the size of the exported batch into an ONNX file.
        direct, mirrored = heatmaps.unflatten(0, (2, -1)).unbind()
        return (direct + mirrored.flip(3)[:, self.flip_indices]) / 2


class PoseReduction(nn.Module):
    """Heatmaps to all that the UDP decode needs of them: 300 times fewer bytes.

    Source: the decode reads an 11-tap Gaussian blur at the peak and its eight neighbours, and rescales it by
    the maximum of the whole blurred map; see `sapiens_core.finish.pose`.
    """

    taps: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = cv2.getGaussianKernel(_BLUR_TAPS, 0, cv2.CV_32F)[:, 0]
        self.register_buffer("taps", torch.from_numpy(taps), persistent=False)

    def forward(self, heatmaps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reduce heatmaps.

        Args:
            heatmaps: (B, K, h, w) float32.

        Returns:
            peaks: (B, K, 2) int32, column and row of the maximum, the first one in row-major order.
            scores: (B, K) float32, the maximum.
            patches: (B, K, 13, 13) float32 around the peak, zero outside the map.
            blurred_max: (B, K) float32, maximum of the blurred map.
        """
        width = heatmaps.shape[3]
        cells = heatmaps.flatten(2)
        scores = cells.amax(2, keepdim=True)
        peaks = _first_index(cells, scores)
        columns, rows = peaks % width, peaks.div(width, rounding_mode="floor")
        return (
            torch.cat([columns, rows], dim=2).int(),
            scores[:, :, 0],
            self._patches(heatmaps, columns, rows),
            self._blurred_max(heatmaps),
        )

    def _patches(self, heatmaps: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
        radius = PEAK_PATCH // 2
        padded_width = heatmaps.shape[3] + 2 * radius
        offsets = torch.arange(PEAK_PATCH, device=heatmaps.device)
        window = (offsets[:, None] * padded_width + offsets).flatten()
        corners = rows * padded_width + columns
        padded = functional.pad(heatmaps, (radius, radius, radius, radius)).flatten(2)
        return padded.gather(2, corners + window).unflatten(2, (PEAK_PATCH, PEAK_PATCH))

    def _blurred_max(self, heatmaps: Tensor) -> Tensor:
        # One group per channel: on a CPU many times faster than maps as a batch, in a fraction of the memory.
        num_keypoints, half = heatmaps.shape[1], _BLUR_TAPS // 2
        rows, columns = self.taps.view(1, 1, 1, -1), self.taps.view(1, 1, -1, 1)
        along_rows = functional.conv2d(
            heatmaps, rows.expand(num_keypoints, 1, 1, -1), padding=(0, half), groups=num_keypoints
        )
        blurred = functional.conv2d(
            along_rows, columns.expand(num_keypoints, 1, -1, 1), padding=(half, 0), groups=num_keypoints
        )
        return blurred.amax((2, 3))


def _first_index(cells: Tensor, largest: Tensor) -> Tensor:
    """Return where (B, K, N) has its largest value (B, K, 1) first: (B, K, 1) int64.

    Of several equal cells, `argmax` of PyTorch and the TopK that TensorRT makes of it may return any.
    """
    num_cells = cells.shape[2]
    ranks = torch.arange(num_cells, 0, -1, dtype=torch.int32, device=cells.device)
    # Where nothing is equal, as among NaN, it is the last one: an index that there is.
    return num_cells - torch.where(cells == largest, ranks, 1).amax(2, keepdim=True).long()


class MarginReduction(nn.Module):
    """Logits to how far each class is below the best one, in a byte: half of what float16 logits are.

    Source: see `sapiens_core.finish.margins`.
    """

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce logits.

        Args:
            logits: (B, C, h, w) float32.

        Returns:
            margins: (B, C, h, w) uint8, m: a logit is `(m / 255)**2 * margin_range` below the cell's highest.
            margin_range: (B, h, w) float16, the largest of these margins.
        """
        margins = logits.amax(1, keepdim=True) - logits
        largest = margins.amax(1, keepdim=True).clamp(*_MARGIN_RANGES).to(torch.float16)
        # In place: 91 MB at released sizes, and as much for each step would be given back and taken anew.
        shares = margins.div_(largest.float()).clamp_(max=1)
        return shares.sqrt_().mul_(255).round_().to(torch.uint8), largest[:, 0]
