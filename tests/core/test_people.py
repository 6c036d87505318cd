import threading

import numpy as np
import pytest

from sapiens_core import people
from sapiens_core.contract.settings import PeopleSettings, StepSettings
from sapiens_core.people import people_pose, person_keypoints
from sapiens_core.prepare.persons import person_inputs

NUM_KEYPOINTS = 5
SETTINGS = PeopleSettings(StepSettings((64, 64), 4), StepSettings((64, 48), 4), NUM_KEYPOINTS)


def detector_of(bboxes):
    """Return an engine that finds these boxes of a (200, 300) image, the first with the best score."""
    scores = np.linspace(0.9, 0.4, len(bboxes), dtype=np.float32)
    candidates = np.float32(bboxes).reshape(-1, 4) * np.float32([64 / 300, 64 / 200] * 2)
    return lambda _pixels: (candidates[None], scores[None])


class PoseEngine:
    """One bump a keypoint, at a place that depends on the crop; remembers the sizes of its batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, pixels):
        count = len(pixels)
        self.batches.append(count)
        columns = 2 + pixels.reshape(count, -1).sum(axis=1) % 8
        peaks = np.stack([columns, columns], axis=1)[:, None].repeat(NUM_KEYPOINTS, axis=1).astype(np.int32)
        patch = np.exp(-((np.mgrid[-6:7, -6:7] / 2.0) ** 2).sum(axis=0)).astype(np.float32)
        scores = np.full((count, NUM_KEYPOINTS), 0.8, np.float32)
        return peaks, scores, np.broadcast_to(patch, (count, NUM_KEYPOINTS, 13, 13)), scores


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)


def grid_of_boxes(count):
    rows, columns = np.divmod(np.arange(count), 10)
    return np.stack([columns * 30, rows * 40, columns * 30 + 20, rows * 40 + 30], axis=1)


@pytest.mark.parametrize(("count", "batches"), [(1, [1]), (4, [4]), (5, [4, 1]), (50, [4] * 12 + [2])])
def test_any_number_of_people_is_split_into_batches(count, batches, image):
    engine, bboxes = PoseEngine(), grid_of_boxes(count)
    pose = people_pose(image, detector_of(bboxes), engine, SETTINGS)
    assert engine.batches == batches
    assert pose.keypoints.shape == (count, NUM_KEYPOINTS, 2)
    np.testing.assert_allclose(pose.person_bboxes, bboxes, atol=1e-3)
    assert (np.diff(pose.bbox_scores) <= 0).all()


def test_keypoints_belong_to_the_box_beside_them(image):
    pose = people_pose(image, detector_of(grid_of_boxes(9)), PoseEngine(), SETTINGS)
    for index in range(9):
        keypoints, scores = person_keypoints(
            image, pose.person_bboxes[index : index + 1], PoseEngine(), SETTINGS.pose
        )
        np.testing.assert_allclose(pose.keypoints[index], keypoints[0], atol=1e-5)
        np.testing.assert_array_equal(pose.scores[index], scores[0])


def test_the_next_batch_is_cut_out_while_the_engine_has_one(image, monkeypatch):
    detector, engine, num_cut = detector_of(grid_of_boxes(9)), PoseEngine(), threading.Semaphore(0)
    expected = people_pose(image, detector, engine, SETTINGS)

    def counted(*args):
        inputs = person_inputs(*args)
        num_cut.release()
        return inputs

    def engine_that_waits(pixels):
        if len(pixels) == SETTINGS.pose.max_batch_size:  # another one comes after it
            assert num_cut.acquire(timeout=30)
            assert num_cut.acquire(timeout=30)
            num_cut.release()
        return engine(pixels)

    monkeypatch.setattr(people, "person_inputs", counted)
    pose = people_pose(image, detector, engine_that_waits, SETTINGS)
    for name, array in vars(pose).items():
        np.testing.assert_array_equal(array, vars(expected)[name])


def test_nobody_has_no_keypoints_and_the_pose_engine_rests(image):
    engine = PoseEngine()
    pose = people_pose(image, detector_of([]), engine, SETTINGS)
    shapes = {name: array.shape for name, array in vars(pose).items()}
    assert shapes == {
        "keypoints": (0, NUM_KEYPOINTS, 2),
        "scores": (0, NUM_KEYPOINTS),
        "person_bboxes": (0, 4),
        "bbox_scores": (0,),
        "image_hw": (2,),
    }
    assert engine.batches == []


def test_on_request_the_whole_image_is_the_person_that_nobody_found(image):
    pose = people_pose(image, detector_of([]), PoseEngine(), SETTINGS, whole_image_if_nobody=True)
    keypoints, _ = person_keypoints(image, None, PoseEngine(), SETTINGS.pose)
    np.testing.assert_array_equal(pose.keypoints, keypoints)
    assert pose.person_bboxes.tolist() == [[0, 0, 300, 200]]
    assert pose.bbox_scores.tolist() == [0]


def test_the_whole_image_is_not_taken_where_somebody_is_found(image):
    bboxes = grid_of_boxes(2)
    pose = people_pose(image, detector_of(bboxes), PoseEngine(), SETTINGS, whole_image_if_nobody=True)
    np.testing.assert_allclose(pose.person_bboxes, bboxes, atol=1e-3)


def test_results_are_float32(image):
    pose = people_pose(image, detector_of(grid_of_boxes(3)), PoseEngine(), SETTINGS)
    kinds = {name: array.dtype for name, array in vars(pose).items()}
    assert {kinds.pop("image_hw")} == {np.dtype(np.int32)}
    assert set(kinds.values()) == {np.dtype(np.float32)}
