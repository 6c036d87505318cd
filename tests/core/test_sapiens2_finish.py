"""Results of the second family, against what its reference makes of the same maps."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from sapiens_core.contract.settings import StepSettings
from sapiens_core.finish import albedo, margins, matting, normal, pointmap
from sapiens_core.labels import class_set
from sapiens_core.pictures import class_picture, normal_picture
from sapiens_core.prepare.letterbox import centered_content
from sapiens_export.engines.reduced import MarginReduction

IMAGES = ("a_up_portrait", "b_down_mixed", "c_small")
NETWORK_HW = (64, 48)
SETTINGS = StepSettings(NETWORK_HW, 1, fit="centered_letterbox")


@pytest.fixture(scope="module")
def vectors(golden2):
    return golden2("postprocess")


def size(vectors, image):
    return np.array(vectors[f"img_{image}"].shape[:2], np.int32)


@pytest.mark.parametrize("image", IMAGES)
def test_normals_equal_the_reference(image, vectors):
    (normals,) = normal.finish_letterboxed(
        vectors[f"normal_raw_{image}"][None], size(vectors, image), SETTINGS
    )
    np.testing.assert_allclose(normals, vectors[f"normal_final_{image}"], rtol=0, atol=1e-5)


def test_normals_that_are_resized_keep_the_length_that_they_get(vectors):
    (normals,) = normal.finish_letterboxed(
        vectors["normal_raw_a_up_portrait"][None], size(vectors, "a_up_portrait"), SETTINGS
    )
    lengths = np.linalg.norm(normals, axis=2)
    assert lengths.max() <= 1 + 1e-6
    assert lengths.min() < 0.99


@pytest.mark.parametrize("image", IMAGES)
def test_points_equal_the_reference(image, vectors):
    points, scale, *_ = pointmap.finish(
        vectors[f"pointmap_raw_{image}"][None],
        vectors[f"pointmap_scale_{image}"],
        size(vectors, image),
        SETTINGS,
    )
    np.testing.assert_allclose(points, vectors[f"pointmap_final_{image}"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(points[..., 2], vectors[f"depth_final_f16_{image}"], rtol=1e-3)  # half's
    assert scale == vectors[f"pointmap_scale_{image}"][0]


def test_the_camera_sees_a_point_where_its_pixel_is():
    scale, image_hw, network_hw = 1.25, (512, 384), (1024, 768)
    focal_px = pointmap.focal_length(scale, network_hw, image_hw)
    assert focal_px == 768 / 1.25 / 2
    matrix = pointmap.camera_matrix(focal_px, image_hw)
    x, y, z = matrix @ np.array([0.5, -0.25, 2], np.float32)
    assert (x / z, y / z) == pytest.approx((191.5 + focal_px / 4, 255.5 - focal_px / 8))


def test_points_are_valid_between_the_nearest_and_the_farthest():
    depths = np.array([[0.0999, 0.1, 250.0, 250.1, np.nan, -1.0, np.inf]], np.float32)
    points = np.stack([np.zeros_like(depths), np.zeros_like(depths), depths], axis=2)
    assert pointmap.valid_points(points).tolist() == [[0, 1, 1, 0, 0, 0, 0]]
    points[0, 1, 0] = np.inf
    assert pointmap.valid_points(points).tolist() == [[0, 0, 1, 0, 0, 0, 0]]


def test_a_scale_of_nothing_makes_no_point_valid(vectors):
    raw, hw = vectors["pointmap_raw_c_small"][None], size(vectors, "c_small")
    points, _, focal_px, _, valid = pointmap.finish(raw, np.zeros((1, 1), np.float32), hw, SETTINGS)
    assert not np.isfinite(points).any()
    assert np.isinf(focal_px)
    assert not valid.any()


@pytest.mark.parametrize("image", IMAGES)
def test_mattes_equal_the_reference(image, vectors):
    alpha, foreground = matting.finish(vectors[f"matting_raw_{image}"][None], size(vectors, image), SETTINGS)
    np.testing.assert_allclose(alpha, vectors[f"matting_alpha_{image}"], rtol=0, atol=1e-5)
    backdrop = np.array([0, 177, 64]) / 255
    composite = (foreground + (1 - alpha[..., None]) * backdrop).clip(0, 1)[..., ::-1] * 255
    difference = np.abs(composite - vectors[f"matting_composite_bgr_{image}"])
    assert difference.max() <= 1


@pytest.mark.parametrize("image", IMAGES)
def test_albedo_equals_the_reference(image, vectors):
    (picture,) = albedo.finish(vectors[f"albedo_raw_{image}"][None], size(vectors, image), SETTINGS)
    difference = picture[..., ::-1].astype(int) - vectors[f"albedo_png_bgr_{image}"]
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 1e-2


def margins_of(logits):
    """What an engine returns of (C, h, w) logits."""
    margins, margin_range = MarginReduction()(torch.from_numpy(logits)[None])
    return margins.numpy(), margin_range.numpy()


@pytest.mark.parametrize("image", IMAGES)
def test_classes_equal_the_reference(image, vectors):
    reduced = margins_of(vectors[f"seg_raw_{image}"])
    (found,) = margins.finish(*reduced, size(vectors, image), SETTINGS)
    assert (found != vectors[f"seg_labels_{image}"]).mean() <= 1e-3


@pytest.mark.parametrize("image_hw", [(300, 400), (96, 128), (50, 90), (1, 1), (3, 700)])
def test_a_byte_is_enough_where_regions_meet(image_hw):
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(scale=4, size=(1, 29, 12, 16)).astype(np.float32))
    logits = interpolate(coarse, (96, 128), mode="bicubic", align_corners=False)
    expected = interpolate(logits, image_hw, mode="bilinear", align_corners=False)[0].argmax(0).numpy()
    (found,) = margins.finish(*margins_of(logits[0].numpy()), np.array(image_hw, np.int32), SETTINGS)
    assert (found != expected).mean() <= 2e-3


def test_a_region_that_is_narrower_than_a_cell_is_found():
    logits = np.full((29, 4, 6), -9, np.float32)
    logits[3, :, :3], logits[7, :, 3:], logits[5] = 8, 8, 1
    expected = interpolate(torch.from_numpy(logits)[None], (64, 96), mode="bilinear")[0].argmax(0).numpy()
    assert set(np.unique(expected)) == {3, 5, 7}
    (found,) = margins.finish(*margins_of(logits), np.array([64, 96], np.int32), SETTINGS)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("value", [0.0, 7.5, 1e9])
def test_the_first_of_equal_classes_wins(value):
    (found,) = margins.finish(
        *margins_of(np.full((29, 4, 3), value, np.float32)), np.array([8, 6], np.int32), SETTINGS
    )
    assert (found == 0).all()


@pytest.mark.parametrize(
    ("finish", "maps", "message"),
    [
        (normal.finish_letterboxed, [np.zeros((1, 3, 32, 24), np.float32)], r"\(C, 64, 48\) float32"),
        (albedo.finish, [np.zeros((1, 3, 64, 48))], "float64"),
        (matting.finish, [np.zeros((1, 3, 64, 48), np.float32)], r"\(4, h, w\)"),
        (
            margins.finish,
            [np.zeros((1, 8, 9, 9), np.uint8), np.zeros((1, 9, 9), np.float32)],
            "float32; pass one",
        ),
    ],
    ids=["normals", "albedo", "matte", "classes"],
)
def test_other_maps_are_refused(finish, maps, message):
    with pytest.raises(ValueError, match=message):
        finish(*maps, np.array([30, 24], np.int32), SETTINGS)


def test_pictures_are_those_of_the_reference(vectors):
    """But for depth, whose colours it spans over all images of a run."""
    image = np.ascontiguousarray(vectors["img_a_up_portrait"][..., ::-1])
    labels = vectors["seg_labels_a_up_portrait"]
    pictures = {
        "normal_vis_bgr": normal_picture(vectors["normal_final_a_up_portrait"]),
        "seg_overlay_bgr": class_picture(image, labels, class_set("sapiens2").palette),
    }
    for name, picture in pictures.items():
        difference = picture[..., ::-1].astype(int) - vectors[f"{name}_a_up_portrait"]
        assert np.abs(difference).max() <= 1, name


def test_an_odd_pixel_of_padding_is_cut_off_on_the_right():
    raw = np.zeros((1, 3, *NETWORK_HW), np.float32)
    content = centered_content((64, 33), NETWORK_HW)
    raw[:, :, content.rows, content.columns] = 0.5
    (picture,) = albedo.finish(raw, np.array([64, 33], np.int32), SETTINGS)
    assert (picture == 127).all()
