"""Person detectors of the RT-DETR family as they are served: uint8 pixels in, persons out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sapiens_core.recipes.recipe import Normalization


class ServedDetector(nn.Module):
    """A detector between its normalisation and its reduction to persons.

    Args:
        network: A model of one of `FAMILIES`.
        normalization: Statistics it was trained with.
        person: Index of its class for persons.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: PreTrainedModel, normalization: Normalization, person: int) -> None:
        super().__init__()
        self.network = network
        self.person = person
        self.register_buffer("mean", torch.tensor(normalization.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalization.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network on raw pixels.

        Args:
            pixels: (B, H, W, 3) uint8, RGB.

        Returns:
            candidate_bboxes: (B, C, 4) float32, xyxy, pixels of the input.
            candidate_scores: (B, C) float32, 0 to 1.
        """
        height, width = pixels.shape[1:3]
        images = (pixels.permute(0, 3, 1, 2).contiguous().float() - self.mean) / self.std
        outputs = self.network(pixel_values=images)
        center, size = outputs.pred_boxes.float().chunk(2, dim=2)
        corners = torch.cat([center - size / 2, center + size / 2], dim=2)
        sides = torch.tensor([width, height, width, height], dtype=torch.float32, device=pixels.device)
        return corners * sides, outputs.logits[:, :, self.person].float().sigmoid()
