"""How right the demo networks are, against exact labels; for training and for `training.evaluate` alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from sapiens_core.finish.pose import udp_decode
from sapiens_core.labels import class_set
from sapiens_core.recipes.recipe import Task
from training.losses import halved

if TYPE_CHECKING:
    from torch import Tensor

    from training.dataset import Batch

_NUM_CLASSES = len(class_set("goliath").names)
_PCK_SHARE = 0.05  # of the image's height, within which a keypoint counts as found


@dataclass
class Measures:
    """Sums over batches; `figures` makes means of them."""

    confusion: Tensor = field(
        default_factory=lambda: torch.zeros(_NUM_CLASSES, _NUM_CLASSES, dtype=torch.float64)
    )
    angles: list[Tensor] = field(default_factory=list)
    depth_errors: list[Tensor] = field(default_factory=list)
    found: list[Tensor] = field(default_factory=list)

    def add(self, outputs: dict[Task, Tensor], batch: Batch) -> None:
        """Compare outputs of every task with the labels.

        Classes are compared on all pixels of the input, keypoints as the product decodes them.

        Args:
            outputs: (B, C, h, w) float of every task, on the CPU.
            batch: The labels, likewise.
        """
        size = batch.classes.shape[1:]
        logits = functional.interpolate(outputs[Task.SEG].float(), size, mode="bilinear")
        truth, predicted = batch.classes, logits.argmax(dim=1)
        pairs = (truth * _NUM_CLASSES + predicted).flatten()
        counts = torch.bincount(pairs, minlength=_NUM_CLASSES**2).reshape(_NUM_CLASSES, -1)
        self.confusion += counts.cpu().double()

        inside = halved((batch.classes > 0).float()[:, None])[:, 0] == 1
        cosine = functional.cosine_similarity(outputs[Task.NORMAL].float(), halved(batch.normals), dim=1)
        self.angles.append(torch.rad2deg(torch.acos(cosine[inside].clamp(-1, 1))))

        for depth, target, classes in zip(
            outputs[Task.DEPTH][:, 0].float(), batch.depth, batch.classes, strict=True
        ):
            self.depth_errors.append(aligned_depth_error(depth[classes > 0], target[classes > 0]))

        cells = torch.from_numpy(udp_decode(outputs[Task.POSE].float().numpy())[0])
        last, last_cell = (_last_place(maps) for maps in (batch.images, outputs[Task.POSE]))
        spots = cells * last / last_cell
        is_inside = ((batch.keypoints >= 0) & (batch.keypoints <= last)).all(dim=2)
        distances = (spots - batch.keypoints).norm(dim=2)
        self.found.append((distances < _PCK_SHARE * batch.images.shape[2])[is_inside].float())

    def figures(self) -> dict[str, float]:
        """Return the means: IoU, degrees, error relative to always saying the median, share of keypoints."""
        person = self.confusion[1:, 1:].sum() / (self.confusion.sum() - self.confusion[0, 0])
        return {
            "silhouette IoU": float(person),
            "mean IoU": mean(self.class_iou().values()),
            "pixel accuracy": float(self.confusion.trace() / self.confusion.sum()),
            "normals, degrees": float(torch.cat(self.angles).mean()),
            "depth, relative error": float(torch.stack(self.depth_errors).mean()),
            "keypoints found": float(torch.cat(self.found).mean()),
        }

    def class_iou(self) -> dict[str, float]:
        """Return the intersection over union of every class that occurs."""
        hits, rows, columns = self.confusion.diagonal(), self.confusion.sum(dim=1), self.confusion.sum(dim=0)
        names = class_set("goliath").names
        return {
            name: float(hits[i] / (rows + columns - hits)[i]) for i, name in enumerate(names) if rows[i] > 0
        }


def _last_place(maps: Tensor) -> Tensor:
    """Return (2,) the last column and row of (B, C, H, W) maps."""
    return torch.tensor([maps.shape[3] - 1, maps.shape[2] - 1])


def aligned_depth_error(depth: Tensor, target: Tensor) -> Tensor:
    """Return how far depth is off after the best scale and shift, relative to always saying the median.

    Args:
        depth: Float, of shape (P,): the person's pixels.
        target: Of the same shape.

    Returns:
        () float: 0 is perfect, 1 as good as a constant. Scale and shift are those of least squares, and the
        error is the mean absolute one.
    """
    centered = depth - depth.mean()
    scale = (centered * target).sum() / (centered**2).sum().clamp(min=1e-9)
    scale = scale.clamp(min=0)  # near stays near
    error = (centered * scale + target.mean() - target).abs().mean()
    return error / (target - target.median()).abs().mean().clamp(min=1e-6)
