import numpy as np
import pytest

from sapiens_core.prepare.geometry import image_points, person_bboxes, person_crops, udp_matrices
from sapiens_core.prepare.persons import person_pixels

NETWORK_HW = (64, 48)


@pytest.fixture
def crops():
    rng = np.random.default_rng(0)
    corners = rng.uniform(-20, 100, (5, 2))
    bboxes = np.concatenate([corners, corners + rng.uniform(2, 90, (5, 2))], axis=1)
    return person_crops(bboxes.astype(np.float32), NETWORK_HW)


def as_tensor(pixels, mean, std):
    normalized = (pixels.astype(np.float32) - np.float32(mean)) / np.float32(std)
    return normalized.transpose(0, 3, 1, 2)


def test_crops_equal_the_reference(golden):
    vectors = golden("topdown")
    crops = person_crops(vectors["boxes_xyxy"], tuple(vectors["crop_hw"].tolist()))
    np.testing.assert_array_equal(crops[:, :2], vectors["full_centers"])
    np.testing.assert_array_equal(crops[:, 2:], vectors["full_scales"])


@pytest.mark.parametrize(
    ("size", "matrices"), [("crop_hw", "full_matrices"), ("tensor_hw", "full_matrices_tensor")]
)
def test_matrices_equal_the_reference(size, matrices, golden):
    vectors = golden("topdown")
    grid_hw = tuple(vectors[size].tolist())
    computed = udp_matrices(person_crops(vectors["boxes_xyxy"], grid_hw), grid_hw)
    np.testing.assert_allclose(computed, vectors[matrices], rtol=1e-5, atol=1e-4)


def test_crops_and_matrices_of_the_lite_demo_take_the_ratio_of_the_image(golden):
    vectors = golden("topdown")
    image_hw = vectors["image_bgr"].shape[:2]
    crops = person_crops(vectors["boxes_xyxy"], image_hw)
    np.testing.assert_array_equal(crops[:, 2:], vectors["lite_scales"])
    np.testing.assert_allclose(udp_matrices(crops, image_hw), vectors["lite_matrices"], rtol=1e-5, atol=1e-4)


def test_person_pixels_equal_the_reference(golden):
    vectors = golden("topdown")
    crop_hw = tuple(vectors["crop_hw"].tolist())
    pixels = person_pixels(vectors["image_bgr"], person_crops(vectors["boxes_xyxy"], crop_hw), crop_hw)
    np.testing.assert_array_equal(pixels.transpose(0, 3, 1, 2), vectors["full_crops_rgb_chw"])


def test_person_pixels_of_the_lite_demo_equal_the_reference(golden):
    vectors = golden("topdown")
    image, crop_hw = vectors["image_bgr"], tuple(vectors["crop_hw"].tolist())
    crops = person_crops(vectors["boxes_xyxy"], image.shape[:2])
    pixels = person_pixels(image, crops, crop_hw, preprocess="lite")
    np.testing.assert_array_equal(pixels.transpose(0, 3, 1, 2), vectors["lite_crops_rgb_chw"])


def test_normalized_person_pixels_equal_the_reference(golden):
    vectors = golden("topdown")
    tensor_hw = tuple(vectors["tensor_hw"].tolist())
    pixels = person_pixels(
        vectors["image_bgr"], person_crops(vectors["boxes_xyxy"][:4], tensor_hw), tensor_hw
    )
    tensors = as_tensor(pixels, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    np.testing.assert_allclose(tensors, vectors["full_tensors"], rtol=0, atol=1e-6)


def test_without_a_box_the_whole_image_is_cropped(golden):
    vectors, image = golden("topdown_fallback"), golden("topdown")["image_bgr"]
    bboxes = person_bboxes(None, image.shape[:2], max_bboxes=1)
    np.testing.assert_array_equal(bboxes, vectors["whole_image_box"])
    crops = person_crops(bboxes, image.shape[:2])
    np.testing.assert_array_equal(crops[:, 2:], vectors["whole_image_scale"])
    pixels = person_pixels(image, crops, tuple(vectors["tensor_hw"].tolist()), preprocess="lite")
    tensor = as_tensor(pixels, mean=(123.5, 116.5, 103.5), std=(58.5, 57.0, 57.5))
    np.testing.assert_allclose(tensor, vectors["whole_image_tensor"], rtol=0, atol=1e-6)


def test_points_return_from_the_crop_to_where_they_were_in_the_image(crops):
    points = np.random.default_rng(1).uniform(-50, 200, (5, 7, 2))
    matrices = udp_matrices(crops, NETWORK_HW).astype(np.float64)
    in_crop = points @ matrices[:, :, :2].transpose(0, 2, 1) + matrices[:, None, :, 2]
    np.testing.assert_allclose(image_points(in_crop, crops, NETWORK_HW), points, rtol=0, atol=1e-4)


def test_the_corners_of_the_grid_are_the_corners_of_the_crop(crops):
    corners = np.tile(np.float32([[0, 0], [NETWORK_HW[1] - 1, NETWORK_HW[0] - 1]]), (5, 1, 1))
    start, end = image_points(corners, crops, NETWORK_HW).transpose(1, 0, 2)
    np.testing.assert_allclose((start + end) / 2, crops[:, :2], atol=1e-4)
    np.testing.assert_allclose(end - start, crops[:, 2:], atol=1e-4)


def test_crops_hold_the_padded_box_and_have_the_shape_of_the_network(crops):
    wide, tall = person_crops(np.float32([[0, 0, 40, 10], [0, 0, 10, 40]]), NETWORK_HW)
    np.testing.assert_allclose(wide, [20, 5, 50, 50 * 64 / 48], rtol=1e-6)
    np.testing.assert_allclose(tall, [5, 20, 50 * 48 / 64, 50], rtol=1e-6)
    np.testing.assert_allclose(crops[:, 3] / crops[:, 2], 64 / 48, rtol=1e-6)


def test_a_shifted_image_and_box_give_the_same_pixels(photo):
    shifted = np.pad(photo, ((11, 0), (7, 0), (0, 0)))
    bbox = np.float32([[20, 20, 60, 90]])
    there = person_pixels(shifted, person_crops(bbox + np.float32([7, 11, 7, 11]), NETWORK_HW), NETWORK_HW)
    here = person_pixels(photo, person_crops(bbox, NETWORK_HW), NETWORK_HW)
    np.testing.assert_array_equal(there, here)


def test_persons_are_cropped_independently_of_each_other(photo, crops):
    order = [3, 0, 4, 1, 2]
    together = person_pixels(photo, crops, NETWORK_HW)
    np.testing.assert_array_equal(person_pixels(photo, crops[order], NETWORK_HW), together[order])


def test_pixels_are_rgb_and_black_outside_the_image():
    blue_bgr = np.zeros((20, 20, 3), np.uint8)
    blue_bgr[..., 0] = 200
    pixels = person_pixels(blue_bgr, np.float32([[10, 10, 60, 80]]), NETWORK_HW)
    assert pixels[0, 32, 24].tolist() == [0, 0, 200]
    assert not pixels[0, 0].any()


def test_image_and_boxes_are_left_unchanged(photo, crops):
    image, bboxes = photo.copy(), np.float32([[1, 2, 30, 40]])
    person_pixels(image, crops, NETWORK_HW)
    person_crops(person_bboxes(bboxes, (120, 90), max_bboxes=1), NETWORK_HW)
    np.testing.assert_array_equal(image, photo)
    assert bboxes.tolist() == [[1, 2, 30, 40]]


def test_boxes_may_reach_beyond_the_image():
    bboxes = np.float32([[-30, -30, 1, 1], [89, 119, 200, 300], [-9, -9, 400, 400]])
    np.testing.assert_array_equal(person_bboxes(bboxes, (120, 90), max_bboxes=3), bboxes)


@pytest.mark.parametrize("side", [1, 131_000])
def test_boxes_of_extreme_size_give_pixels_and_finite_points(side, photo):
    bboxes = person_bboxes(np.float32([[44, 50, 44 + side, 50 + side]]), photo.shape[:2], max_bboxes=1)
    crops = person_crops(bboxes, NETWORK_HW)
    assert person_pixels(photo, crops, NETWORK_HW).shape == (1, *NETWORK_HW, 3)
    assert np.isfinite(image_points(np.zeros((1, 1, 2)), crops, NETWORK_HW)).all()


@pytest.mark.parametrize(
    ("bboxes", "message"),
    [
        pytest.param(np.zeros(4), r"\(N, 4\), got shape \(4,\)", id="one axis"),
        pytest.param(np.zeros((2, 5)), r"got shape \(2, 5\)", id="five columns"),
        pytest.param(np.zeros((0, 4)), "1 to 8 per request, got 0", id="none"),
        pytest.param(np.ones((9, 4)), "1 to 8 per request, got 9", id="too many"),
        pytest.param([[0, 0, 9, np.nan]], r"finite.*got \[0.0, 0.0, 9.0, nan\] at index 0", id="nan"),
        pytest.param([[0, 0, 9, 9], [0, 0, np.inf, 9]], r"inf, 9.0\] at index 1", id="inf"),
        pytest.param([[0, 0, 1e30, 9]], r"within 131064 pixels .* 1e\+30", id="far away"),
        pytest.param([[30, 5, 10, 9]], r"at least one pixel, got \[30.0, 5.0, 10.0, 9.0\]", id="swapped"),
        pytest.param([[3, 5, 9, 5]], "at least one pixel", id="flat"),
        pytest.param([[0.1, 0.2, 0.8, 0.9]], "relative coordinates", id="relative"),
        pytest.param([[90, 0, 99, 9]], "overlap the image of 90 x 120 pixels, got .*90", id="right of it"),
        pytest.param([[0, -9, 9, 0]], "overlap the image", id="above it"),
    ],
)
def test_bad_boxes_are_refused_with_what_was_seen(bboxes, message):
    with pytest.raises(ValueError, match=message):
        person_bboxes(np.asarray(bboxes, np.float64), (120, 90), max_bboxes=8)
