from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sapiens_client import InvalidInputError, Keypoint, PoseResult
from sapiens_core.labels import KeypointSet, keypoint_set
from sapiens_core.pictures import boxes_picture, pose_picture


def unlabelled(num_keypoints: int) -> KeypointSet:
    names = tuple(map(str, range(num_keypoints)))
    return KeypointSet("", names, (), (), ((255, 0, 0),) * num_keypoints, ())


def test_persons_are_views_of_the_arrays(pose):
    for index, person in enumerate(pose.persons):
        np.testing.assert_array_equal(person.xy, pose.keypoints[index])
        np.testing.assert_array_equal(person.scores, pose.scores[index])
        np.testing.assert_array_equal(person.bbox, pose.bboxes[index])
        assert person.bbox_score is None


def test_a_keypoint_is_found_by_name_and_by_index(pose):
    person = pose.persons[1]
    x, y = pose.keypoints[1, 7].tolist()
    assert person["left_elbow"] == person[7] == Keypoint(x, y, pose.scores[1, 7])
    assert [*person] == [person[name] for name in pose.keypoint_set.names]
    assert len(person) == 17


@pytest.mark.parametrize(
    ("label", "hint"),
    [("left_elbo", "'left_elbow'"), ("elbow", "'left_elbow'"), (17, "nose, left_eye"), (-1, "")],
)
def test_an_unknown_keypoint_is_an_error_that_helps(pose, label, hint):
    with pytest.raises(
        InvalidInputError, match=f"keypoint must be one of the network's 17.*{label!r}.*{hint}"
    ):
        _ = pose.persons[0][label]


@pytest.mark.parametrize(
    ("source", "target"), [("goliath", "coco_wholebody"), ("goliath", "coco"), ("coco_wholebody", "coco")]
)
def test_conversion_keeps_what_the_names_share(make_pose, source, target):
    pose = make_pose(keypoint_set(source))
    converted = pose.to(target)
    for before, after in zip(pose.persons, converted.persons, strict=True):
        for name in converted.keypoint_set.names:
            if name in pose.keypoint_set.names:
                assert after[name] == before[name]
            else:
                assert np.isnan(after[name].x)
                assert after[name].score == 0


def test_conversion_in_two_steps_is_conversion_in_one(make_pose):
    pose = make_pose(keypoint_set("goliath"))
    direct, stepwise = pose.to("coco"), pose.to("coco_wholebody").to("coco")
    np.testing.assert_array_equal(stepwise.keypoints, direct.keypoints)
    assert np.isfinite(direct.keypoints).all()
    assert (direct.keypoints.dtype, direct.scores.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("source", ["coco", "coco_wholebody", "goliath"])
def test_a_keypoint_halfway_between_others_has_the_lower_score(make_pose, source):
    pose = make_pose(keypoint_set(source))
    for before, after in zip(pose, pose.to("openpose18"), strict=True):
        left, right, middle = before["left_shoulder"], before["right_shoulder"], after["mid_shoulder"]
        assert (middle.x, middle.y) == pytest.approx(((left.x + right.x) / 2, (left.y + right.y) / 2))
        assert middle.score == min(left.score, right.score)
        assert after["left_elbow"] == before["left_elbow"] == after[6]


def test_only_the_308_keypoints_have_pupils(make_pose):
    for source in ("coco_wholebody", "goliath"):
        pose = make_pose(keypoint_set(source))
        face = pose.to("face70")
        assert np.isnan(face[0]["right_pupil"].x) == (source == "coco_wholebody")
    assert (face[0]["right_pupil"], face[0]["face-30"]) == (
        pose[0]["r_center_of_pupil"],
        pose[0]["tip_of_nose"],
    )


@pytest.mark.parametrize(
    ("source", "sizes"),
    [("coco", (25, 0, 0)), ("coco_wholebody", (25, 70, 21)), ("goliath", (25, 70, 21))],
)
def test_openpose_reads_every_set_of_keypoints(make_pose, tmp_path, source, sizes):
    pose = make_pose(keypoint_set(source))
    (path,) = pose.save(tmp_path / "a.openpose.json")
    frame = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (frame["version"], len(frame["people"])) == (1.3, len(pose))
    person = frame["people"][1]
    names = ("pose_keypoints_2d", "face_keypoints_2d", "hand_right_keypoints_2d")
    assert tuple(len(person[name]) // 3 for name in names) == sizes
    assert person["hand_left_keypoints_3d"] == []
    elbow = pose[1]["right_elbow"]
    assert person["pose_keypoints_2d"][9:12] == [elbow.x, elbow.y, elbow.score]
    toe = person["pose_keypoints_2d"][57:60]
    assert (toe == [0, 0, 0]) == (source == "coco")


def test_openpose_has_scores_of_one_at_most_and_two_bodies(make_pose):
    pose = make_pose(keypoint_set("goliath"), 1, scores=np.full((1, 308), 1.25, np.float32))
    (person,) = pose.to_openpose("openpose18")["people"]
    assert person["pose_keypoints_2d"][2::3] == [1.0] * 18
    assert make_pose(keypoint_set("coco"), 0).to_openpose()["people"] == []
    with pytest.raises(InvalidInputError, match="openpose25, openpose18, got 'mpi'"):
        pose.to_openpose("mpi")


def test_a_set_that_does_not_exist_or_fit_is_an_error(pose, make_pose):
    with pytest.raises(InvalidInputError, match=r"'coco_wholebody'.*got 'halpe'"):
        pose.to("halpe")
    with pytest.raises(InvalidInputError, match=r"share names.*'0'.*'nose'"):
        make_pose(unlabelled(17)).to("coco")


def test_keypoints_without_labels_work_by_index(make_pose):
    pose = make_pose(unlabelled(5))
    assert pose.persons[0][3] == pose.persons[0]["3"]
    assert pose.plot().size == (90, 120)


def test_nobody_is_a_result_too(make_pose, photo):
    nobody = make_pose(keypoint_set("coco_wholebody"), 0)
    assert (nobody.persons, nobody.to_coco(image_id=1)) == ((), [])
    assert nobody.to("coco").keypoints.shape == (0, 17, 2)
    np.testing.assert_array_equal(np.asarray(nobody.plot()), photo)


def test_the_skeleton_is_drawn_over_the_image(pose, photo):
    options = {"threshold": 0.5, "radius": 2, "thickness": 1}
    for chosen in ({}, options):
        expected = pose_picture(photo, pose.keypoints, pose.scores, pose.keypoint_set, **chosen)
        np.testing.assert_array_equal(np.asarray(pose.plot(**chosen)), expected)


def test_coco_keypoints_are_triples_and_the_score_is_that_of_the_reference(make_pose):
    scores = np.full((1, 17), 0.1, np.float32)
    scores[0, :2] = 0.4, 0.8
    pose = make_pose(keypoint_set("coco"), 1, scores=scores, bbox_scores=np.float32([0.5]))
    (coco,) = pose.to_coco(image_id="a", category_id=3)
    triples = np.reshape(coco["keypoints"], (17, 3))
    np.testing.assert_array_equal(triples[:, :2], pose.keypoints[0])
    np.testing.assert_array_equal(triples[:, 2], scores[0])
    assert (coco["image_id"], coco["category_id"]) == ("a", 3)
    assert coco["score"] == pytest.approx(0.6 * 0.5)


def test_coco_has_no_room_for_missing_keypoints(make_pose, tmp_path):
    converted = make_pose(keypoint_set("goliath")).to("coco_wholebody")
    (path,) = converted.save(tmp_path / "a.json", image_id=7)
    (first, _) = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    is_missing = np.isnan(converted.keypoints[0]).any(axis=1)
    assert 0 < is_missing.sum() < 133
    np.testing.assert_array_equal((np.reshape(first["keypoints"], (133, 3)) == 0).all(axis=1), is_missing)


def test_boxes_are_drawn_with_their_scores(detections, photo):
    expected = boxes_picture(photo, detections.bboxes, detections.scores)
    np.testing.assert_array_equal(np.asarray(detections.plot()), expected)


def test_coco_boxes_have_width_and_height(detections):
    first, second = detections.to_coco(image_id=1)
    assert (first["bbox"], second["bbox"]) == ([10, 20, 30, 80], [30.5, 5, 49.5, 105])
    assert first["score"] == pytest.approx(0.9)


def test_a_picture_of_a_damaged_image_says_so(pose):
    damaged = PoseResult(**{**vars(pose), "encoded_image": np.zeros(5, np.uint8)})
    with pytest.raises(InvalidInputError, match="got 5 bytes"):
        damaged.plot()
    assert isinstance(pose.plot(), Image.Image)
