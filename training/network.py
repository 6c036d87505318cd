"""The demo networks in training: one backbone of the Sapiens architecture, with a decode head per task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS
from sapiens_export.networks.config import NetworkConfig
from sapiens_export.networks.sapiens import Backbone, DecodeHead

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from training.dataset import Batch

INPUT_HW = (256, 192)
_EMBED_DIM, _NUM_LAYERS, _NUM_HEADS = 160, 8, 5
_ENDS_OF_BRANCHES = tuple(
    f"{layer}.{kind}" for layer in ("attn.proj", "ffn.layers.1") for kind in ("weight", "bias")
)
_OUTPUTS = {Task.SEG: (28, 32), Task.NORMAL: (3, 32), Task.DEPTH: (1, 16), Task.POSE: (17, 32)}
SERVED_TASKS = tuple(_OUTPUTS)


def demo_config(task: Task) -> NetworkConfig:
    """Return the architecture of the demo network of a task."""
    num_outputs, head_channels = _OUTPUTS.get(task, (_EMBED_DIM, 0))
    labels = next(
        (variant.labels for variant in first_recipe(task).variants if variant.num_outputs == num_outputs), ""
    )
    return NetworkConfig(
        family="sapiens",
        task=task,
        embed_dim=_EMBED_DIM,
        num_layers=_NUM_LAYERS,
        num_heads=_NUM_HEADS,
        patch_padding=0,
        input_hw=INPUT_HW,
        head_channels=head_channels,
        num_outputs=num_outputs,
        labels=labels,
    )


def normalized(images: Tensor) -> Tensor:
    """Return (B, 3, H, W) float RGB images, 0..255, as the backbone wants them."""
    statistics = NORMALIZATIONS["full"]
    mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (statistics.mean, statistics.std))
    return (images - mean) / std


def new_backbone() -> Backbone:
    """Return a backbone that has learnt nothing."""
    backbone = Backbone(demo_config(Task.SEG), has_class_token=False)
    nn.init.trunc_normal_(backbone.pos_embed, std=0.02)
    for name, parameter in backbone.layers.named_parameters():  # a residual branch starts small
        if name.endswith(_ENDS_OF_BRANCHES):
            parameter.data.mul_(0.0 if name.endswith("bias") else 0.3)
    return backbone


class DemoNetworks(nn.Module):
    """All four tasks at once."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = new_backbone()
        self.heads = nn.ModuleDict(
            {
                task.value: DecodeHead(head, demo_config(task))
                for task in _OUTPUTS
                if (head := first_recipe(task).head)
            }
        )

    def forward(self, images: Tensor) -> dict[Task, Tensor]:
        """Return every task's (B, C, h, w) output of (B, 3, H, W) float RGB images, 0..255."""
        features = self.backbone(normalized(images))
        return {Task(name): head(features) for name, head in self.heads.items()}

    @staticmethod
    def labels(batch: Batch) -> Batch:
        """Return the batch as the losses and measures want it."""
        return batch

    def task_weights(self, task: Task) -> dict[str, Tensor]:
        """Return the weights of one task's network under the official names, of the official shape."""
        weights = {f"backbone.{name}": value for name, value in self.backbone.state_dict().items()}
        head = first_recipe(task).head
        if head:
            state = self.heads[task.value].state_dict()
            weights |= {f"{head.name}.{name}": value for name, value in state.items()}
        return weights

    def load_task_weights(self, weights: Mapping[Task, Mapping[str, Tensor]]) -> None:
        """Take weights, each of its official shape, by task; the backbone is that of the last one."""
        for task, named in weights.items():
            parts: dict[str, dict[str, Tensor]] = {}
            for name, value in named.items():
                part, _, rest = name.partition(".")
                parts.setdefault(part, {})[rest] = value.float()
            self.backbone.load_state_dict(parts.pop("backbone"))
            (head,) = parts.values()
            self.heads[task.value].load_state_dict(head)
