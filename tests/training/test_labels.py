"""Labels of renders, as the networks learn them: framing, mirroring, depth without unit, heatmaps."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from sapiens_core.contract.settings import StepSettings
from sapiens_core.finish.pose import udp_decode
from sapiens_core.labels import class_set, keypoint_set
from sapiens_core.prepare.image import image_inputs
from training.dataset import FAR, Shards, augmented, mirrored, plain_batch, relative_depth
from training.losses import heatmaps
from training.sample import Sample, stacked

CLASSES, KEYPOINTS = class_set("goliath").names, keypoint_set("coco").names


@pytest.fixture
def sample():
    """A disc of a person, whose keypoints lie at bright dots of the image."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:256, :192]
    is_person = (columns - 90) ** 2 + (rows - 130) ** 2 < 60**2
    spots = rng.uniform(-30, 30, (17, 2)).round() + np.array([90, 130])
    image = np.full((256, 192, 3), 90, np.uint8)
    for x, y in spots.astype(int):
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
    return Sample(
        image=image,
        class_map=np.where(is_person, CLASSES.index("Left_Hand"), 0).astype(np.uint8),
        normals=np.where(is_person[..., None], np.array([100, 20, 70]), 0).astype(np.int8),
        depth=np.where(is_person, rows / 256, 0).astype(np.float16),
        keypoints=(spots + 0.5).astype(np.float32),
    )


@pytest.mark.parametrize("seed", range(6))
def test_keypoints_and_labels_move_with_the_image(sample, seed):
    framed = augmented(sample, (256, 192), np.random.default_rng(seed))
    x, y = framed.keypoints.round().astype(int).T
    is_inside = (x >= 0) & (x < 192) & (y >= 0) & (y < 256)
    grey = framed.image.mean(axis=2)
    assert is_inside.sum() >= 5
    assert np.median(grey[y[is_inside], x[is_inside]]) > grey[framed.class_map > 0].mean() + 20
    is_person = framed.class_map > 0
    mean_normal = framed.normals[is_person].mean(axis=0)
    side = "Left_Hand" if mean_normal[0] > 0 else "Right_Hand"  # mirroring does both
    assert set(np.unique(framed.class_map)) == {0, CLASSES.index(side)}


@pytest.mark.parametrize("seed", range(12))
def test_a_keypoint_stays_on_its_spot_to_a_tenth_of_a_pixel(sample, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform((85, 120), (95, 140))  # from the image's corner
    rows, columns = np.mgrid[:256, :192] + 0.5
    spot = np.round(250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3**2)))
    sample = replace(
        sample,
        image=np.repeat(spot[..., None], 3, axis=2).astype(np.uint8),
        keypoints=np.tile(np.array([x, y], np.float32), (17, 1)),
    )
    framed = augmented(sample, (256, 192), rng)
    light = framed.image.mean(axis=2)
    light = np.maximum(light - light.max() / 4, 0)  # away with the brightness that augmentation adds
    rows, columns = np.mgrid[:256, :192]
    centroid = np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()
    np.testing.assert_allclose(framed.keypoints, np.tile(centroid, (17, 1)), atol=0.1)


@pytest.mark.parametrize("input_hw", [(128, 96), (192, 144), (256, 192), (96, 160)])
def test_whole_images_are_stretched_as_the_product_stretches_them(sample, tmp_path, input_hw):
    rows, columns = np.mgrid[:256, :192]
    waves = [np.sin(rows / 9 + shift) + np.sin(columns / 7 - shift) for shift in range(3)]
    image = np.round(128 + 60 * np.stack(waves, axis=2)).astype(np.uint8)
    np.savez(tmp_path / "1_0000.npz", **stacked([replace(sample, image=image)]))
    seen = plain_batch(Shards(tmp_path), range(1), input_hw).images[0].permute(1, 2, 0).numpy()
    wanted = image_inputs(np.ascontiguousarray(image[:, :, ::-1]), StepSettings(input_hw, 1)).pixels[0]
    np.testing.assert_allclose(seen, wanted, atol=1)


def test_mirroring_twice_changes_nothing(sample):
    framed = augmented(sample, (256, 192), np.random.default_rng(0))
    again = mirrored(mirrored(framed))
    for field in fields(Sample):
        np.testing.assert_allclose(getattr(again, field.name), getattr(framed, field.name), atol=1e-4)


def test_mirroring_swaps_left_and_right(sample):
    flipped = mirrored(sample)
    left, right = KEYPOINTS.index("left_wrist"), KEYPOINTS.index("right_wrist")
    np.testing.assert_allclose(flipped.keypoints[right, 0], 191 - sample.keypoints[left, 0])
    assert CLASSES[flipped.class_map.max()] == "Right_Hand"


def test_relative_depth_has_no_unit():
    rng = np.random.default_rng(0)
    depth, is_person = rng.normal(2, 0.1, (20, 30)).astype(np.float32), rng.random((20, 30)) < 0.5
    once, scaled = (relative_depth(values, is_person) for values in (depth, 3 * depth + 7))
    np.testing.assert_allclose(once, scaled, rtol=0.02)
    assert np.abs(once[is_person]).mean() == pytest.approx(1, abs=0.1)
    assert set(once[~is_person]) == {FAR}


def test_a_hand_held_out_is_as_far_as_it_is():
    depth = np.zeros((10, 10), np.float32)
    depth[:, :5], depth[0, 0] = 0.1, -9
    relative = relative_depth(depth, np.ones((10, 10), bool))
    assert relative.min() < -50


def test_heatmaps_are_what_the_decode_of_the_product_reads():
    rng = np.random.default_rng(0)
    keypoints = rng.uniform((16, 16), (175, 239), (17, 2))
    maps = heatmaps(torch.from_numpy(keypoints[None]), (256, 192))[0].numpy().astype(np.float32)
    cells, scores = udp_decode(maps[None])
    np.testing.assert_allclose(cells[0] * (191 / 47, 255 / 63), keypoints, atol=0.1)
    assert scores.min() > 0.9
