from __future__ import annotations

import itertools

import numpy as np
import pytest
from crossings import crossing, num_switches

from sapiens_core.motion.assignment import best_pairs
from sapiens_core.motion.similarity import box_similarity, keypoint_similarity
from sapiens_core.motion.tracks import Persons, TrackRules, Tracks, followed

RULES = TrackRules()
TWO = {"starts": [(100, 200), (500, 205)], "speeds": [(100, 0), (-100, 0)]}
SCENES = {
    "head-on": crossing(**TWO),
    "often lost": crossing(**TWO, lost=0.25),
    "noisy": crossing(**TWO, noise=4),
    "six frames a second": crossing(**TWO, rate=6),
    "overtaking": crossing([(100, 200), (160, 210)], [(120, 0), (60, 0)], seconds=3),
    "three at once": crossing([(100, 200), (500, 205), (300, 40)], [(100, 0), (-100, 0), (0, 80)], lost=0.1),
    "large before small": crossing(**TWO, sizes=[(90, 240), (60, 160)]),
}


def ids_of(scene, rules=RULES):
    tracks, ids = Tracks.none(), []
    for time_s, persons in zip(scene.times_s, scene.found, strict=True):
        result = followed(tracks, persons, float(time_s), rules)
        tracks = result.tracks
        ids.append(result.ids)
    return ids


def without_keypoints(persons):
    return Persons.in_boxes(persons.bboxes, persons.scores)


@pytest.mark.parametrize("has_keypoints", [True, False], ids=["keypoints", "boxes"])
@pytest.mark.parametrize("name", SCENES)
def test_people_who_cross_keep_their_numbers(name, has_keypoints):
    scene = SCENES[name]
    if not has_keypoints:
        scene.found[:] = map(without_keypoints, scene.found)
    assert min(map(len, scene.who)) < max(map(len, scene.who))  # somebody was hidden
    ids = ids_of(scene)
    assert num_switches(scene.who, ids) == 0
    assert {*np.concatenate(ids).tolist()} == {*range(1, 1 + len({*np.concatenate(scene.who).tolist()}))}


def test_without_memory_whoever_was_hidden_is_somebody_new():
    scene = SCENES["head-on"]
    assert num_switches(scene.who, ids_of(scene, TrackRules(memory_s=0.05))) > 0


def person(x, score=0.9):
    return Persons.in_boxes(np.float32([[x, 0, x + 50, 100]]), np.float32([score]))


def test_a_faint_box_continues_a_track_and_starts_none():
    first = followed(Tracks.none(), person(0, 0.25), 0.0, RULES)
    assert first.ids.tolist() == [-1]
    known = followed(first.tracks, person(0), 0.1, RULES)
    assert known.ids.tolist() == [1]
    assert followed(known.tracks, person(2, 0.25), 0.2, RULES).ids.tolist() == [1]


def test_numbers_are_given_once():
    known = followed(Tracks.none(), person(0), 0.0, RULES).tracks
    later = followed(known, person(0), 10.0, RULES)
    assert later.ids.tolist() == [2]
    assert followed(Tracks.none(later.tracks.last_id), person(0), 11.0, RULES).ids.tolist() == [3]


def test_following_leaves_its_arguments_as_they_were():
    tracks = followed(Tracks.none(), person(0), 0.0, RULES).tracks
    before = tracks.persons.bboxes.copy()
    followed(tracks, person(9), 0.1, RULES)
    np.testing.assert_array_equal(tracks.persons.bboxes, before)


def test_persons_must_fit_together():
    odd = Persons(np.zeros((1, 4), np.float32), np.zeros(2, np.float32), *np.zeros((2, 1, 0), np.float32))
    with pytest.raises(ValueError, match=r"keypoint_scores of shape \(1, 0\)"):
        followed(Tracks.none(), odd, 0.0, RULES)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (6, 6), (0, 3), (3, 0)], ids=str)
def test_pairs_are_the_best_in_sum(shape):
    rng = np.random.default_rng(0)
    for _ in range(20):
        likeness = rng.random(shape).astype(np.float32)
        pairs = best_pairs(likeness, 0.0)
        rows, columns = sorted(range(2), key=lambda axis: shape[axis])
        table = likeness if rows == 0 else likeness.T
        best = max(
            sum(table[row, column] for row, column in enumerate(chosen))
            for chosen in itertools.permutations(range(shape[columns]), shape[rows])
        )
        assert likeness[pairs[:, 0], pairs[:, 1]].sum() == pytest.approx(best, abs=1e-5)
        assert len({*pairs[:, 0].tolist()}) == len({*pairs[:, 1].tolist()}) == len(pairs) == min(shape)


def test_what_is_too_little_alike_is_no_pair():
    likeness = np.float32([[0.9, 0.8], [0.8, np.nan]])
    assert best_pairs(likeness, 0.85).tolist() == [[0, 0]]
    assert best_pairs(likeness, 0.5).tolist() == [[0, 1], [1, 0]]


def test_boxes_are_alike_by_what_they_share():
    bboxes = np.float32([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 20]])
    expected = [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(box_similarity(bboxes, bboxes), expected, rtol=1e-6)


def test_keypoints_are_alike_as_coco_says():
    pycocotools = pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(0)
    sigmas = pycocotools.Params(iouType="keypoints").kpt_oks_sigmas
    keypoints = rng.uniform(0, 100, (2, 17, 2)).astype(np.float32)
    others = (keypoints[::-1] + rng.normal(0, 5, (2, 17, 2))).astype(np.float32)
    areas = np.float32([4000, 9000])
    scores = np.ones((2, 17), np.float32)
    alike = keypoint_similarity(keypoints, scores, others, scores, areas, tuple(sigmas))
    squares = np.square(keypoints[:, None] - others[None]).sum(axis=3)
    expected = np.exp(-squares / (2 * sigmas) ** 2 / areas[:, None, None] / 2).mean(axis=2)
    np.testing.assert_allclose(alike, expected, rtol=1e-4, atol=1e-7)


def test_hidden_keypoints_do_not_count():
    keypoints = np.zeros((1, 2, 2), np.float32)
    others = np.float32([[[0, 0], [90, 0]]])
    scores = np.float32([[0.9, 0.1]])
    areas = np.float32([100])
    assert keypoint_similarity(keypoints, scores, others, np.ones_like(scores), areas).tolist() == [[1]]
    faint = np.zeros_like(scores)
    assert np.isnan(keypoint_similarity(keypoints, faint, others, scores, areas)).all()
