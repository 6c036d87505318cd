from dataclasses import replace

import numpy as np
import pytest

from sapiens_core.contract.settings import PeopleSettings, StepSettings
from sapiens_core.finish.detect import detected_persons, suppressed
from sapiens_core.prepare.image import image_inputs
from sapiens_core.prepare.letterbox import fitted_hw
from sapiens_core.recipes.detectors import MAX_PERSON_OVERLAP

CASES = ["n0", "n1", "n2", "n3"]
UNSCALED = StepSettings((512, 512), 4)


@pytest.fixture
def candidates():
    """(60, 4) float32 xyxy within 512 x 512, many of them overlapping, and their scores."""
    rng = np.random.default_rng(0)
    corners, sides = rng.uniform(0, 400, (60, 2)), rng.uniform(10, 110, (60, 2))
    scores = rng.permutation(np.linspace(0.01, 0.99, 60))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32), scores.astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_suppression_equals_the_reference(case, golden):
    vectors = golden("nms")
    kept = suppressed(vectors[f"{case}_boxes"], vectors[f"{case}_scores"], max_overlap=MAX_PERSON_OVERLAP)
    np.testing.assert_array_equal(kept, vectors[f"{case}_nms_keep"])


@pytest.mark.parametrize("case", CASES)
def test_persons_equal_the_reference(case, golden):
    vectors = golden("nms")
    is_person = vectors[f"{case}_labels"] == 0
    bboxes, _ = detected_persons(
        vectors[f"{case}_boxes"][is_person], vectors[f"{case}_scores"][is_person], (512, 512), UNSCALED
    )
    np.testing.assert_array_equal(bboxes, vectors[f"{case}_result"])


@pytest.mark.parametrize("image", [0, 1])
def test_persons_of_the_references_detector_equal_its_own(image, golden):
    vectors = golden("net_rtmdet")
    side = vectors["images_bgr"].shape[2]  # it clips to its padded, square input instead of the image
    bboxes, scores = detected_persons(
        vectors[f"bgr{image}_boxes"],
        vectors[f"bgr{image}_scores"],
        (side, side),
        StepSettings((side, side), 4),
    )
    expected = vectors[f"bgr{image}_person_boxes"]
    assert sorted(map(tuple, bboxes)) == sorted(map(tuple, expected))
    assert (np.diff(scores) <= 0).all()


def test_no_two_persons_overlap_and_the_best_come_first(candidates):
    bboxes, scores = detected_persons(*candidates, (512, 512), UNSCALED)
    assert 1 < len(bboxes) < 60
    assert (np.diff(scores) <= 0).all()
    assert len(suppressed(bboxes, scores, max_overlap=MAX_PERSON_OVERLAP)) == len(bboxes)


def test_the_order_of_the_candidates_is_of_no_account(candidates):
    order = np.random.default_rng(1).permutation(60)
    shuffled = detected_persons(candidates[0][order], candidates[1][order], (512, 512), UNSCALED)
    for seen, expected in zip(shuffled, detected_persons(*candidates, (512, 512), UNSCALED), strict=True):
        np.testing.assert_array_equal(seen, expected)


def test_equally_good_boxes_stay_in_their_order():
    bboxes = np.float32([[0, 0, 9, 9], [50, 0, 59, 9], [100, 0, 109, 9]])
    kept = suppressed(bboxes, np.float32([0.5, 0.5, 0.5]), max_overlap=0.3)
    assert kept.tolist() == [0, 1, 2]


def test_the_candidates_are_left_unchanged(candidates):
    before = [array.copy() for array in candidates]
    detected_persons(*candidates, (100, 100), UNSCALED)
    for array, copy in zip(candidates, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("image_hw", [(300, 200), (90, 1000), (1, 1), (640, 640), (3, 2000)])
def test_a_box_of_the_image_comes_back_from_the_networks_input(image_hw, fit):
    settings = StepSettings((640, 480), 4, fit=fit)
    fitted = fitted_hw(image_hw, settings.network_hw, fit)
    candidate = np.float32([[0, 0, fitted[1], fitted[0]]])
    bboxes, scores = detected_persons(candidate, np.float32([0.9]), image_hw, settings)
    np.testing.assert_allclose(bboxes, [[0, 0, image_hw[1], image_hw[0]]], rtol=1e-6)
    assert scores.tolist() == [np.float32(0.9)]


def test_persons_lie_within_the_image():
    bboxes = np.float32([[-50, -20, 100, 90], [400, 400, 900, 900], [-99, 0, -1, 50], [511.5, 0, 600, 50]])
    persons, _ = detected_persons(bboxes, np.float32([0.9, 0.8, 0.7, 0.6]), (512, 512), UNSCALED)
    assert persons.tolist() == [[0, 0, 100, 90], [400, 400, 512, 512]]


@pytest.mark.parametrize("score", [0.3, 0.0, -1.0, np.nan])
def test_what_does_not_score_is_nobody(score):
    bboxes, scores = detected_persons(np.float32([[0, 0, 50, 90]]), np.float32([score]), (512, 512), UNSCALED)
    assert (bboxes.shape, scores.shape) == ((0, 4), (0,))


@pytest.mark.parametrize(("least", "count"), [(0.3, 3), (0.4, 2), (0.55, 1), (0.9, 0)])
def test_a_detector_may_need_another_least_score(least, count):
    bboxes = np.float32([[0, 0, 50, 90], [100, 0, 150, 90], [200, 0, 250, 90]])
    scores = np.float32([0.4, 0.5, 0.6])
    persons, _ = detected_persons(bboxes, scores, (512, 512), replace(UNSCALED, min_score=least))
    assert len(persons) == count


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_corner_that_is_no_number_never_reaches_the_boxes(bad):
    bboxes = np.float32([[bad, 0, 50, 90], [0, 0, 50, bad], [200, 200, 300, 300]])
    persons, _ = detected_persons(bboxes, np.float32([0.9, 0.8, 0.7]), (512, 512), UNSCALED)
    assert np.isfinite(persons).all()
    assert [200, 200, 300, 300] in persons.tolist()


def test_other_shapes_are_refused():
    with pytest.raises(
        ValueError, match=r"\(C, 4\) and candidate_scores \(C,\), got \(1, 5, 4\) and \(1, 5\)"
    ):
        detected_persons(np.zeros((1, 5, 4), np.float32), np.zeros((1, 5), np.float32), (9, 9), UNSCALED)


def test_a_letterbox_keeps_the_aspect_ratio_and_repeats_the_border(photo):
    stretching = StepSettings((64, 48), 4, interpolation="antialiased_bilinear")
    settings = replace(stretching, network_hw=(64, 64), fit="letterbox")
    pixels = image_inputs(photo, settings).pixels[0]
    assert fitted_hw((120, 90), (64, 64), "letterbox") == (64, 48)
    np.testing.assert_array_equal(pixels[:, 48:], np.repeat(pixels[:, 47:48], 16, axis=1))
    np.testing.assert_array_equal(pixels[:, :48], image_inputs(photo, stretching).pixels[0])


def test_settings_come_back_from_their_parameters():
    settings = PeopleSettings(
        StepSettings((640, 480), 8, fit="letterbox", min_score=0.45),
        StepSettings((1024, 768), 4, "lite"),
        num_keypoints=17,
    )
    parameters = {name: {"string_value": text} for name, text in settings.to_parameters().items()}
    config = {"model_config": f'{{"parameters": {str(parameters).replace(chr(39), chr(34))}}}'}
    assert PeopleSettings.from_args(config) == settings
