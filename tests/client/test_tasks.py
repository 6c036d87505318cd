"""All tasks but depth on a real server: pose with a small network, the others with stand-ins."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from sapiens_client import InvalidInputError, RequestTimeoutError, SapiensClient, ServerUnavailableError
from sapiens_client.tasks.boxes import checked_bboxes

BOXES = np.float32([[5 * index, 3 * index, 5 * index + 40, 3 * index + 60] for index in range(10)])


def check_same(answer, expected, order=...):
    """Batches differ, and so do the last bits of heatmaps; where these are flat, shares of a pixel."""
    np.testing.assert_array_equal(answer.bboxes, expected.bboxes[order])
    np.testing.assert_allclose(answer.scores, expected.scores[order], rtol=0, atol=1e-5)
    assert np.quantile(np.abs(answer.keypoints - expected.keypoints[order]), 0.95) < 1e-2


def test_normals_are_as_large_as_the_image(client, photo):
    result = client.normal(photo)
    assert (result.normals.shape, result.normals.dtype) == ((120, 90, 3), np.float32)
    assert (result.image_hw, result.model.task) == ((120, 90), "normal")


def test_the_model_tells_the_classes(client, photo):
    result = client.seg(photo)
    assert (result.class_map.shape, result.class_map.dtype) == ((120, 90), np.uint8)
    assert (len(result.classes), result.classes[2], result.model.task) == (28, "Face_Neck", "seg")


def test_features_come_without_batch(client, photo):
    result = client.features(photo)
    assert (result.features.shape, result.image_hw) == ((1, 4, 3), (120, 90))


def test_without_boxes_the_whole_image_is_one_person(pose_client, photo):
    result = pose_client.pose(photo)
    np.testing.assert_array_equal(result.bboxes, [[0, 0, 90, 120]])
    assert (result.keypoints.shape, result.keypoint_set.name) == ((1, 17, 2), "coco")
    check_same(pose_client.pose(photo, [[0, 0, 90, 120]]), result)


def test_an_empty_list_of_boxes_is_answered_without_a_request(pose_client, photo):
    for bboxes in ([], np.zeros((0, 4))):
        result = pose_client.pose(photo, bboxes)
        assert (result.persons, result.keypoints.shape, result.scores.shape) == ((), (0, 17, 2), (0, 17))
        assert (result.timing.request_bytes, result.timing.request_s) == (0, 0)


def test_more_boxes_than_the_server_takes_are_the_same_as_one_by_one(pose_client, photo):
    together = pose_client.pose(photo, BOXES)
    one_by_one = [pose_client.pose(photo, [box]) for box in BOXES]
    arrays = {
        name: np.concatenate([each.arrays()[name] for each in one_by_one]) for name in together.arrays()
    }
    check_same(together, replace(together, **arrays))
    assert together.timing.request_bytes > 3 * photo.nbytes


def test_permuted_boxes_give_permuted_persons(pose_client, photo):
    order = np.random.default_rng(0).permutation(len(BOXES))
    check_same(pose_client.pose(photo, BOXES[order]), pose_client.pose(photo, BOXES), order)


@dataclass
class Detections:
    """What other libraries have."""

    xyxy: np.ndarray


BOXES_OF_OTHERS = {
    "list": lambda boxes: boxes.tolist(),
    "integers": lambda boxes: boxes.astype(np.int64),
    "columns first": lambda boxes: np.asfortranarray(boxes, np.float64),
    "scores": lambda boxes: np.hstack([boxes, [[0.9], [0]]]),
    "scores and classes": lambda boxes: np.hstack([boxes, [[0.9, 0], [1, 77]]]),
    "an object": Detections,
    "an object with scores": lambda boxes: Detections(np.hstack([boxes, [[0.9], [0]]])),
}


@pytest.mark.parametrize("form", BOXES_OF_OTHERS.values(), ids=BOXES_OF_OTHERS.keys())
def test_boxes_of_other_types_are_the_same(form):
    boxes = np.float32([[1, 2, 30, 40], [5, 6, 70, 80]])
    np.testing.assert_array_equal(checked_bboxes(form(boxes)), boxes)


@pytest.mark.parametrize("box", [(1, 2, 30, 40), np.float32([1, 2, 30, 40, 0.5]), [1, 2, 30, 40, 0.5, 3]])
def test_one_box_may_stand_alone(box):
    np.testing.assert_array_equal(checked_bboxes(box), [[1, 2, 30, 40]])


@pytest.mark.parametrize("shape", [(0,), (0, 4), (0, 5), (0, 6)])
def test_no_boxes_are_nobody(shape):
    assert checked_bboxes(np.zeros(shape)).shape == (0, 4)
    assert checked_bboxes(Detections(np.zeros(shape))).shape == (0, 4)


@pytest.mark.parametrize(
    ("bboxes", "sentence"),
    [
        ([[1, 2, 3]], r"\(N, 4\), .* got shape \(1, 3\)"),
        ([1, 2, 30], r"\(N, 4\), .* got shape \(3,\)"),
        (np.zeros((2, 7)), r"\(N, 5\) or \(N, 6\), got shape \(2, 7\)"),
        (np.zeros((1, 2, 4)), r"got shape \(1, 2, 4\)"),
        (7, r"\(N, 4\), .* got shape \(\)"),
        ([[0, 1, 2, 30, 40]], r"a score of 0\.\.1 as fifth number, got 40"),
        ([[1, 2, 30, 40, np.nan]], r"a score of 0\.\.1 as fifth number, got nan"),
        ([[1, 2, 3, 4], [5]], r"numbers, got \[\[1, 2, 3, 4\], \[5\]\]"),
        ("left", "numbers, got 'left'"),
        ([[0, 0, np.nan, 10]], r"finite .* nan, .* at index 0"),
        ([[0, 0, 1e300, 10]], r"finite .* inf, .* at index 0"),
        ([[1, 2, 30, 40], [30, 2, 1, 40]], r"sides .* got \[30.0, 2.0, 1.0, 40.0\] at index 1"),
        ([[-30, 2, -10, 40]], r"overlap the image, which begins at 0, 0, got \[-30"),
        ([[3, -20, 10, -4]], r"overlap the image, which begins at 0, 0, got \[3"),
    ],
)
def test_boxes_that_no_image_could_have_are_refused_before_anything_travels(
    dead_url, photo, bboxes, sentence
):
    with SapiensClient(dead_url) as client:
        with pytest.raises(InvalidInputError, match=rf"^bboxes must .*{sentence}"):
            client.pose(photo, bboxes)
        with pytest.raises(ServerUnavailableError):
            client.pose(photo, BOXES)


def test_a_box_that_the_server_refuses_is_found_among_many(pose_client, photo):
    outside = [[500, 500, 600, 600]]
    with pytest.raises(InvalidInputError, match=r"^bboxes must overlap .* 90 x 120 .*index 0"):
        pose_client.pose(photo, outside)
    with pytest.raises(InvalidInputError, match=r"^of bboxes\[8:11\]: bboxes must overlap .*500.*index 2"):
        pose_client.pose(photo, [*BOXES.tolist(), *outside])


def test_all_requests_of_a_call_share_its_deadline(pose_client, photo):
    pose_client.pose(photo)
    told = r"within 0\.1 s|Request timeout expired"  # by this side, or by the server's queue
    with pytest.raises(RequestTimeoutError, match=told):
        pose_client.pose(photo, np.tile(BOXES, (1000 // len(BOXES), 1)), timeout_s=0.1)


def test_detections_are_boxes_with_scores(client, photo):
    result = client.detect(photo)
    assert (result.bboxes.shape, result.scores.shape) == ((9, 4), (9,))
    assert (result.model.family, result.image_hw) == ("nanodet", (120, 90))


def test_people_have_the_keypoints_of_the_pose_network_and_the_scores_of_the_detector(client, photo):
    result = client.people(photo)
    np.testing.assert_array_equal(result.bboxes, client.detect(photo).bboxes)
    person = result.persons[1]
    assert (person["nose"].x, person["nose"].y) == (15, 60)
    assert person.bbox_score == pytest.approx(client.detect(photo).scores[1])


def test_nobody_in_the_image_is_an_empty_result_unless_the_whole_image_is_wanted(client):
    narrow = np.zeros((40, 9, 3), np.uint8)
    assert client.detect(narrow).bboxes.shape == (0, 4)
    assert client.people(narrow).keypoints.shape == (0, 17, 2)
    fallback = client.people(narrow, whole_image_if_nobody=True)
    assert (fallback.bboxes.tolist(), fallback.persons[0].bbox_score) == ([[0, 0, 9, 40]], 0)
