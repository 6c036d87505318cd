"""What the demo networks learn to reduce, per task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from sapiens_core.labels import class_set
from sapiens_core.recipes.recipe import Task

if TYPE_CHECKING:
    from torch import Tensor

    from training.dataset import Batch

HEATMAP_SIGMA = 2.0  # cells; the released networks have 6 on maps four times as large
_COMMON = {"Background", "Face_Neck", "Hair", "Upper_Clothing", "Lower_Clothing"}
_CLASS_WEIGHTS = torch.tensor([1.0 if name in _COMMON else 2.5 for name in class_set("goliath").names])
_LARGEST_DEPTH = 3.0  # mean deviations; a hand held out counts no more
_DEPTH_STEPS = (2, 8, 32)  # pixels over which differences of depth are compared


def losses(outputs: dict[Task, Tensor], batch: Batch) -> dict[Task, Tensor]:
    """Return one number per task, so weighted that their sum trains all.

    Args:
        outputs: (B, C, h, w) float of every task.
        batch: The labels.
    """
    outputs = {task: output.float() for task, output in outputs.items()}
    return {
        Task.SEG: _class_loss(outputs[Task.SEG], batch.classes),
        Task.NORMAL: _normal_loss(outputs[Task.NORMAL], batch),
        Task.DEPTH: _depth_loss(outputs[Task.DEPTH][:, 0], batch),
        Task.POSE: _pose_loss(
            outputs[Task.POSE], heatmaps(batch.keypoints, (batch.images.shape[2], batch.images.shape[3]))
        ),
    }


def heatmaps(keypoints: Tensor, input_hw: tuple[int, int]) -> Tensor:
    """Return (B, 17, H / 4, W / 4) unit peaks at (B, 17, 2) keypoints of an input; none outside.

    Source: the reference's UDP codec: the first and the last cell stand on the first and the last pixel.
    """
    height, width = input_hw[0] // 4, input_hw[1] // 4
    x = keypoints[..., 0] * (width - 1) / (input_hw[1] - 1)
    y = keypoints[..., 1] * (height - 1) / (input_hw[0] - 1)
    is_inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    across = torch.exp(-((torch.arange(width, device=x.device) - x[..., None]) ** 2) / (2 * HEATMAP_SIGMA**2))
    down = torch.exp(-((torch.arange(height, device=y.device) - y[..., None]) ** 2) / (2 * HEATMAP_SIGMA**2))
    return down[..., :, None] * across[..., None, :] * is_inside[..., None, None]


def halved(values: Tensor) -> Tensor:
    """Return (B, C, H / 2, W / 2) means of (B, C, H, W)."""
    return functional.avg_pool2d(values, 2)


def _class_loss(logits: Tensor, classes: Tensor) -> Tensor:
    # An output cell covers four pixels; each says what it should be.
    log_probabilities = functional.log_softmax(logits, dim=1)
    corners = [classes[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    weights = _CLASS_WEIGHTS.to(logits.device)
    return sum(functional.nll_loss(log_probabilities, corner, weights) for corner in corners) / 4  # type: ignore[return-value]


def _normal_loss(normals: Tensor, batch: Batch) -> Tensor:
    inside = halved((batch.classes > 0).float()[:, None])
    target = functional.normalize(halved(batch.normals), dim=1)
    angle = 1 - functional.cosine_similarity(normals, target, dim=1)[:, None]
    difference = (normals - target).abs().sum(dim=1, keepdim=True)
    error = angle + 0.3 * difference
    return _mean(error, inside) + 0.15 * _mean(error, 1 - inside)


def _depth_loss(depth: Tensor, batch: Batch) -> Tensor:
    inside = (batch.classes > 0).float()
    target = batch.depth.clamp(-_LARGEST_DEPTH, _LARGEST_DEPTH)
    error = functional.smooth_l1_loss(depth, target, reduction="none")  # the largest errors lead
    loss = 2 * _mean(error, inside) + 0.5 * _mean(error, 1 - inside)
    loss = loss + (1 - _correlation(depth, target, inside)).mean()  # blind to scale and shift, as the measure
    for step in _DEPTH_STEPS:  # blind to a shift of the whole person
        for axis in (1, 2):
            if step >= depth.shape[axis]:
                continue
            near, far = (depth.narrow(axis, start, depth.shape[axis] - step) for start in (0, step))
            near_is, far_is = (target.narrow(axis, start, depth.shape[axis] - step) for start in (0, step))
            both = inside.narrow(axis, 0, depth.shape[axis] - step) * inside.narrow(
                axis, step, depth.shape[axis] - step
            )
            loss = loss + 0.4 * _mean(((far - near) - (far_is - near_is)).abs().clamp(max=2), both)
    return loss


def _pose_loss(output: Tensor, target: Tensor) -> Tensor:
    return ((output - target) ** 2 * (1 + 20 * target)).mean() * 20


def _correlation(values: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Return (B,) the correlation of (B, H, W) maps where `inside` is 1."""
    count = inside.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    first, second = (
        (one - (one * inside).sum(dim=(1, 2), keepdim=True) / count) * inside for one in (values, target)
    )
    norms = first.square().sum(dim=(1, 2)) * second.square().sum(dim=(1, 2))
    return (first * second).sum(dim=(1, 2)) / norms.clamp(min=1e-6).sqrt()


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)
