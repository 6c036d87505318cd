from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sapiens_client import DepthResult, NormalResult
from sapiens_client.tasks.analyze import Analysis
from sapiens_client.video.decoding import Frame
from sapiens_client.video.follow import Follower
from sapiens_client.video.shots import KeyFrames, shots
from sapiens_client.video.wishes import wishes
from sapiens_core.labels import keypoint_set
from sapiens_core.motion.one_euro import jitter

RATE = 25.0


def shots_of(pictures, **options):
    frames = [Frame(index, index / RATE, 1 / RATE, picture) for index, picture in enumerate(pictures)]
    return list(shots(frames, wishes(("people",), options)))


def stills(number, level=90):
    return [np.full((90, 160, 3), level, np.uint8)] * number


def test_smoothing_makes_persons_tremble_less_each_by_its_own_past(make_pose):
    rng = np.random.default_rng(0)
    two = make_pose(keypoint_set("coco"), scores=np.full((2, 17), 0.9, np.float32))
    two = replace(two, bboxes=np.float32([[0, 0, 60, 90], [90, 0, 150, 90]]))
    follower, raw, steady = Follower(wishes(("people",), {"smooth": True})), [], []
    for shot in shots_of(stills(60), smooth=True):
        noise = rng.normal(0, 1, two.keypoints.shape).astype(np.float32)
        order = rng.permutation(2)
        pose = replace(two, keypoints=two.keypoints + noise)[order]
        frame = follower.next(shot, Analysis({"people": pose}))
        by_id = np.argsort(frame.track_ids)
        raw.append(pose.keypoints[by_id])
        steady.append(frame.results.people.keypoints[by_id])
    before, after = (jitter(np.stack(each).reshape(60, -1, 2)) for each in (raw, steady))
    assert after < 0.3 * before
    assert {*map(len, steady)} == {2}


def test_without_smoothing_answers_are_as_they_came(pose):
    answer = Analysis({"people": pose})
    (shot,) = shots_of(stills(1))
    assert Follower(wishes(("people",), {})).next(shot, answer).results.people is pose


def test_maps_are_steady_within_a_shot_and_new_after_a_cut(result, normal_result):
    pictures = [*stills(3), *stills(2, level=240)]
    follower = Follower(wishes(("depth", "normal"), {"smooth_maps": 0.5}))
    seen = []
    for index, shot in enumerate(shots_of(pictures, smooth_maps=0.5)):
        assert shot.is_first == (index in (0, 3))
        depth = replace(result, depth=np.full((90, 160), index, np.float32))
        frame = follower.next(shot, Analysis({"depth": depth, "normal": normal_result}))
        seen.append(frame.results.depth.depth[0, 0].item())
        assert isinstance(frame.results.depth, DepthResult)
        assert isinstance(frame.results.normal, NormalResult)
        lengths = np.linalg.norm(frame.results.normal.normals, axis=2)
        np.testing.assert_allclose(lengths, 1, atol=1e-4)
    assert seen == [0, 0.5, 1.25, 3, 3.5]


def found(detections, shift):
    bboxes = np.float32([[10, 20, 40, 100], [60, 5, 110, 110]]) + np.float32([shift, 0, shift, 0])
    return replace(detections, bboxes=bboxes)


def in_boxes(detections, pictures):
    keys, ready = KeyFrames(), []
    for shot in shots_of(pictures, det_frequency=4):
        persons = found(detections, shot.frame.index) if shot.is_key else None
        ready += keys.ready(replace(shot, persons=persons))
    return [*ready, *keys.rest()]


def test_boxes_move_straight_between_the_frames_that_persons_were_looked_for_in(detections):
    ready = in_boxes(detections, stills(10))
    assert [shot.frame.index for shot in ready] == list(range(10))
    assert [shot.frame.index for shot in ready if shot.is_key] == [0, 4, 8]
    # After the last such frame nobody knows: boxes stay.
    assert [shot.persons.bboxes[0, 0].item() - 10 for shot in ready] == pytest.approx(
        [*range(9), 8], abs=1e-4
    )
    assert all(shot.track_ids.tolist() == [1, 2] for shot in ready)


def test_boxes_do_not_move_over_a_cut(detections):
    ready = in_boxes(detections, [*stills(6), *stills(3, level=240)])
    assert [shot.frame.index for shot in ready if shot.is_key] == [0, 4, 6]
    shifts = [shot.persons.bboxes[0, 0].item() - 10 for shot in ready]
    assert shifts == pytest.approx([0, 1, 2, 3, 4, 4, 6, 6, 6], abs=1e-4)
    assert [shot.track_ids.tolist() for shot in ready[5:7]] == [[1, 2], [3, 4]]
