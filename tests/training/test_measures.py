"""The figures by which the demo networks are judged."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from sapiens_core.recipes.recipe import Task
from training.dataset import Batch
from training.losses import halved, heatmaps, losses
from training.measures import Measures, aligned_depth_error


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 28, (2, 1, 8, 6), generator=generator).float()
    classes = functional.interpolate(coarse, scale_factor=8)[:, 0].long()
    normals = functional.interpolate(torch.randn(2, 3, 8, 6, generator=generator), scale_factor=8)
    return Batch(
        images=torch.zeros(2, 3, 64, 48),
        classes=classes,
        normals=functional.normalize(normals, dim=1),
        depth=torch.randn(2, 64, 48, generator=generator),
        keypoints=16 + torch.rand(2, 17, 2, generator=generator) * torch.tensor([15, 31]),
    )


@pytest.fixture
def perfect(batch):
    return {
        Task.SEG: functional.one_hot(batch.classes[:, ::2, ::2], 28).permute(0, 3, 1, 2).float(),
        Task.NORMAL: 7 * halved(batch.normals),
        Task.DEPTH: -3 + 5 * batch.depth[:, None],
        Task.POSE: heatmaps(batch.keypoints, (64, 48)).float(),
    }


def figures(outputs, batch):
    measures = Measures()
    measures.add(outputs, batch)
    return measures.figures()


def test_perfect_outputs_have_perfect_figures(perfect, batch):
    found = figures(perfect, batch)
    assert found.pop("normals, degrees") == pytest.approx(0, abs=0.1)
    assert found.pop("depth, relative error") == pytest.approx(0, abs=1e-5)
    assert list(found.values()) == pytest.approx([1] * len(found))


@pytest.mark.parametrize(
    ("task", "name", "worse"),
    [
        (Task.SEG, "mean IoU", lambda output: output.flip(3)),
        (Task.NORMAL, "normals, degrees", lambda output: output * torch.tensor([-1, 1, 1])[:, None, None]),
        (Task.DEPTH, "depth, relative error", lambda output: output.flip(3)),
        (Task.POSE, "keypoints found", lambda output: output.flip(1)),
    ],
)
def test_mirrored_outputs_have_bad_figures(perfect, batch, task, name, worse):
    good, bad = figures(perfect, batch)[name], figures(perfect | {task: worse(perfect[task])}, batch)[name]
    assert abs(good - bad) > 0.3


def test_classes_lie_on_pixels_as_the_product_draws_them(perfect, batch):
    """A straight edge between two classes, half way between two cells of the output."""
    logits = torch.zeros(2, 28, 32, 24)
    logits[:, 1] = torch.linspace(-23.5, 23.5, 24)
    right = (torch.arange(48) >= 24).long().expand(2, 64, 48)
    exact, shifted = (replace(batch, classes=right.roll(by, dims=2)) for by in (0, 1))
    assert figures(perfect | {Task.SEG: logits}, exact)["pixel accuracy"] == 1
    assert figures(perfect | {Task.SEG: logits}, shifted)["pixel accuracy"] < 0.98


@pytest.mark.parametrize("offset", [(2.5, 0.0), (0.0, 2.5)])
def test_keypoints_are_decoded_between_cells(perfect, batch, offset):
    """On so small an image a keypoint counts as found within 3.2 pixels, and cells are 4.2 apart."""
    spots = torch.tensor([5.4 * 47 / 11, 7.4 * 63 / 15]).expand(2, 17, 2)
    outputs = perfect | {Task.POSE: heatmaps(spots, (64, 48)).float()}
    near = replace(batch, keypoints=spots + torch.tensor(offset))
    assert figures(outputs, near)["keypoints found"] == 1


def test_only_the_loss_stops_at_a_largest_depth(perfect, batch):
    everywhere = replace(batch, classes=torch.ones_like(batch.classes))
    far, farther = (replace(everywhere, depth=batch.depth.sign() * depth) for depth in (3, 300))
    assert losses(perfect, far)[Task.DEPTH] == losses(perfect, farther)[Task.DEPTH]


def test_losses_are_computed_where_the_batch_is(perfect, batch):
    elsewhere = torch.device("meta")
    outputs = {task: output.to(elsewhere) for task, output in perfect.items()}
    found = losses(outputs, batch.to(elsewhere))
    assert {loss.device for loss in found.values()} == {elsewhere}


def test_depth_that_is_always_the_same_is_as_bad_as_the_median():
    target = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert aligned_depth_error(torch.zeros(1000), target) == pytest.approx(1, abs=0.02)
    assert aligned_depth_error(5 - 2 * target, target) == pytest.approx(1, abs=0.02)
    assert aligned_depth_error(5 + 2 * target, target) == pytest.approx(0, abs=1e-5)
