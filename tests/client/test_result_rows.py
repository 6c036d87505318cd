"""Results as collections of persons and boxes, and where they come from."""

from __future__ import annotations

import numpy as np
import pytest

from sapiens_client import InvalidInputError, SapiensClient
from sapiens_client.results.people import PoseResult
from sapiens_client.testing import FakeServer


def test_poses_are_a_collection_of_persons(pose):
    assert (len(pose), [*pose], pose[0]) == (2, [*pose.persons], pose.persons[0])
    assert pose[-1] is pose.persons[1]
    with pytest.raises(IndexError):
        _ = pose[2]


def test_detections_are_a_collection_of_boxes(detections):
    assert len(detections) == 2
    for row, box in enumerate(detections):
        np.testing.assert_array_equal(box.bbox, detections.bboxes[row])
        assert box.score == detections.scores[row]
    assert detections[1].score == 0.5


@pytest.mark.parametrize(
    "which", [np.array([False, True]), [False, True], [1], np.array([1]), slice(1, 2), slice(-1, None)]
)
def test_some_persons_are_a_result(make_pose, pose, which):
    pose = make_pose(pose.keypoint_set, bbox_scores=np.float32([0.2, 0.7]))
    some = pose[which]
    assert isinstance(some, PoseResult)
    for name, array in pose.arrays().items():
        np.testing.assert_array_equal(some.arrays()[name], array[1:])
    assert (some.model, some.keypoint_set, len(pose[[]])) == (pose.model, pose.keypoint_set, 0)


def test_persons_and_boxes_are_filtered_by_score(pose, detections):
    assert [box.score for box in detections[detections.scores > 0.6]] == [pytest.approx(0.9)]
    scores = pose.person_scores
    expected = [row["score"] for row in pose.to_coco(image_id=0)]
    np.testing.assert_allclose(scores, expected)
    assert [*pose[scores == scores.max()]] != []
    assert len(pose[scores > 1]) == 0


@pytest.mark.parametrize(
    "which", ["nose", np.ones(3, bool), [5], 0.5, None, np.ones((2, 2), bool), np.zeros((1, 1), int)]
)
def test_what_selects_no_rows_is_told(pose, detections, which):
    for result in (pose, detections):
        with pytest.raises(InvalidInputError, match="which must"):
            _ = result[which]


def test_results_tell_the_request_and_the_server(photo):
    with FakeServer() as server, SapiensClient(server.url) as client:
        for task in ("depth", "pose", "detect", "people"):
            result = getattr(client, task)(photo)
            assert (result.url, result.request_id) == (server.url, server.requests[-1].request_id)
        analysis = client.analyze(photo, tasks=("depth", "seg"))
        assert analysis.depth.request_id == analysis.seg.request_id == server.requests[-1].request_id
        assert client.pose(photo, []).request_id == ""


def test_poses_are_asked_for_in_detected_boxes(photo):
    with FakeServer(persons=3) as server, SapiensClient(server.url) as client:
        detections = client.detect(photo)
        pose = client.pose(photo, detections)
        np.testing.assert_array_equal(pose.bboxes, detections.bboxes)
        np.testing.assert_array_equal(pose.bbox_scores, detections.scores)
        again = client.pose(photo, pose[:1])
        np.testing.assert_array_equal(again.bboxes, detections.bboxes[:1])
        assert len(client.pose(photo, detections[detections.scores > 1])) == 0


def test_show_opens_the_picture(monkeypatch, result):
    shown = []
    monkeypatch.setattr("PIL.ImageShow.show", lambda image, title=None, **_: shown.append(image))
    result.show()
    np.testing.assert_array_equal(np.asarray(shown[0]), np.asarray(result.plot()))
