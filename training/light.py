"""Light heads: one linear map per token for decode heads, which teaches a backbone several times as fast."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional

from sapiens_core.recipes.recipe import Task
from training.network import demo_config, new_backbone, normalized

if TYPE_CHECKING:
    from torch import Tensor

    from training.dataset import Batch

# Cells that a token tells of, along its patch's side. With labels of half the input's size, the outputs stand
# to the labels as those of the decode heads do.
_CELLS = {Task.SEG: 4, Task.NORMAL: 4, Task.DEPTH: 8, Task.POSE: 4}


class LightNetworks(nn.Module):
    """All four tasks at once, on coarse maps: the backbone is that of the demo networks."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = new_backbone()
        self.heads = nn.ModuleDict(
            {
                task.value: nn.Linear(demo_config(task).embed_dim, demo_config(task).num_outputs * cells**2)
                for task, cells in _CELLS.items()
            }
        )

    def forward(self, images: Tensor) -> dict[Task, Tensor]:
        """Return every task's (B, C, h, w) output of (B, 3, H, W) float RGB images, 0..255."""
        tokens = self.backbone(normalized(images)).permute(0, 2, 3, 1)
        return {
            task: functional.pixel_shuffle(self.heads[task.value](tokens).permute(0, 3, 1, 2), cells)
            for task, cells in _CELLS.items()
        }

    @staticmethod
    def labels(batch: Batch) -> Batch:
        """Return the batch with maps of half the size, as the losses and measures want them."""
        return replace(
            batch,
            classes=batch.classes[:, ::2, ::2],
            normals=batch.normals[:, :, ::2, ::2],
            depth=batch.depth[:, ::2, ::2],
        )
