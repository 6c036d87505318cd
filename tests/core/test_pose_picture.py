import numpy as np
import pytest

from sapiens_core.labels import keypoint_set
from sapiens_core.pictures import BOX_COLOR, boxes_picture, pose_picture

COCO = keypoint_set("coco")


def test_the_pose_picture_equals_the_reference(golden):
    vectors = golden("topdown")
    picture = pose_picture(
        np.ascontiguousarray(vectors["image_bgr"][:, :, ::-1]),
        vectors["lite_back_keypoints"],
        vectors["lite_back_scores"],
        COCO,
        threshold=0.3,
        radius=3,
        thickness=2,
    )
    np.testing.assert_array_equal(picture[:, :, ::-1], vectors["lite_vis_bgr"])


@pytest.mark.parametrize("name", ["coco", "coco_wholebody", "goliath"])
def test_every_set_of_keypoints_can_be_drawn(name, photo):
    keypoints = keypoint_set(name)
    points = np.random.default_rng(0).uniform(0, 90, (2, len(keypoints.names), 2)).astype(np.float32)
    picture = pose_picture(photo, points, np.ones(points.shape[:2], np.float32), keypoints)
    assert picture.shape == photo.shape
    assert (picture != photo).any()


def test_a_keypoint_is_drawn_in_its_colour_and_only_if_it_scores():
    black = np.zeros((40, 40, 3), np.uint8)
    keypoints, scores = np.full((1, 17, 2), 20.9, np.float32), np.zeros((1, 17), np.float32)
    assert not pose_picture(black, keypoints, scores, COCO).any()
    scores[0, 5] = 0.5
    assert tuple(pose_picture(black, keypoints, scores, COCO, radius=0)[20, 20]) == COCO.colors[5]


def test_the_image_is_left_unchanged(photo):
    before = photo.copy()
    pose_picture(photo, np.full((1, 17, 2), 30, np.float32), np.ones((1, 17), np.float32), COCO)
    boxes_picture(photo, np.float32([[5, 5, 50, 60]]), np.float32([0.9]))
    np.testing.assert_array_equal(photo, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_points_far_outside_do_not_fail(value, photo):
    keypoints = np.full((1, 17, 2), value, np.float32)
    assert pose_picture(photo, keypoints, np.ones((1, 17), np.float32), COCO).shape == photo.shape
    assert (
        boxes_picture(photo, np.full((1, 4), value, np.float32), np.ones(1, np.float32)).shape == photo.shape
    )


def test_nobody_gives_the_image_itself(photo):
    picture = pose_picture(photo, np.zeros((0, 17, 2), np.float32), np.zeros((0, 17), np.float32), COCO)
    np.testing.assert_array_equal(picture, photo)
    np.testing.assert_array_equal(boxes_picture(photo, np.zeros((0, 4), np.float32), np.zeros(0)), photo)


def test_boxes_are_drawn_around_their_persons(photo):
    picture = boxes_picture(photo, np.float32([[10, 20, 60, 100]]), np.float32([0.87]))
    for row, column in ((20, 35), (100, 35), (60, 10), (60, 60)):
        assert tuple(picture[row, column]) == BOX_COLOR
    np.testing.assert_array_equal(picture[50:90, 20:50], photo[50:90, 20:50])


def test_shapes_that_do_not_fit_together_are_refused(photo):
    with pytest.raises(ValueError, match=r"\(N, 17, 2\) for 'coco' .* got \(1, 133, 2\) and \(1, 133\)"):
        pose_picture(photo, np.zeros((1, 133, 2)), np.zeros((1, 133)), COCO)
    with pytest.raises(ValueError, match=r"bboxes must be \(N, 4\) and scores \(N,\), got \(4,\) and \(1,\)"):
        boxes_picture(photo, np.zeros(4), np.zeros(1))
