import numpy as np
import pytest

from sapiens_core.labels import class_set
from sapiens_core.pictures import class_picture, normal_picture, numbers_picture

PALETTE = [(0, 0, 0), (255, 0, 10), (255, 255, 255)]


@pytest.mark.parametrize("case", range(3))
def test_classes_over_the_image_equal_the_reference(case, golden):
    vectors = golden("seg_postprocess")
    image, classes = vectors[f"s{case}_image_bgr"][:, :, ::-1], vectors[f"s{case}_lite_seg"].astype(np.uint8)
    picture = class_picture(image, classes, class_set("goliath").palette)
    side_by_side = np.concatenate([image, picture], axis=1)[:, :, ::-1]
    np.testing.assert_array_equal(side_by_side, vectors[f"s{case}_lite_vis_bgr"])


def test_colours_mix_half_and_half_rounded_down():
    levels = np.arange(256, dtype=np.uint8)
    image = np.repeat(levels[None, :, None], 3, axis=2)
    picture = class_picture(image, np.ones((1, 256), np.uint8), PALETTE)
    np.testing.assert_array_equal(picture[0, :, 0], (levels.astype(int) + 255) // 2)
    np.testing.assert_array_equal(picture[0, :, 2], (levels.astype(int) + 10) // 2)


def test_the_image_is_left_unchanged(photo):
    before = photo.copy()
    class_picture(photo, np.ones(photo.shape[:2], np.uint8), PALETTE)
    np.testing.assert_array_equal(photo, before)


def test_a_class_without_colour_is_refused(photo):
    with pytest.raises(ValueError, match="below 3, the size of the palette, got 3"):
        class_picture(photo, np.full(photo.shape[:2], 3, np.uint8), PALETTE)


def test_a_class_map_of_another_size_is_refused(photo):
    with pytest.raises(ValueError, match=r"\(90, 120, 3\) to fit class_map, got \(120, 90, 3\)"):
        class_picture(photo, np.zeros((90, 120), np.uint8), PALETTE)


@pytest.mark.parametrize("case", range(3))
def test_normals_in_colour_equal_the_reference(case, golden):
    vectors = golden("normal_postprocess")
    picture = normal_picture(vectors[f"n{case}_normal"], vectors[f"n{case}_mask"])
    np.testing.assert_array_equal(picture[:, :, ::-1], vectors[f"n{case}_vis_bgr"])


def test_x_y_z_are_red_green_blue():
    picture = normal_picture(np.array([[[1, 0, -1]]], np.float32))
    np.testing.assert_array_equal(picture, [[[255, 127, 0]]])


def test_what_is_not_a_number_is_black():
    assert not normal_picture(np.full((2, 2, 3), np.nan, np.float32)).any()


def test_normals_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"got shape \(3, 4, 5\)"):
        normal_picture(np.zeros((3, 4, 5), np.float32))


def test_a_foreground_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 5\) like normals, got \(5, 4\)"):
        normal_picture(np.zeros((4, 5, 3), np.float32), np.zeros((5, 4), bool))


def test_numbers_stand_in_their_boxes_and_nobody_has_none():
    image = np.zeros((100, 200, 3), np.uint8)
    bboxes = np.float32([[0, 0, 90, 100], [100, 0, 190, 100]])
    picture = numbers_picture(image, bboxes, np.array([7, -1]))
    assert picture[:, :100].any()
    assert not picture[:, 100:].any()
    assert not image.any()


def test_numbers_and_boxes_are_as_many():
    with pytest.raises(ValueError, match=r"numbers \(N,\), got \(1, 4\) and \(2,\)"):
        numbers_picture(np.zeros((9, 9, 3), np.uint8), np.zeros((1, 4), np.float32), np.arange(2))
