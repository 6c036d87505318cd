"""The decode of heatmaps and the choice of persons, against the second family's reference."""

import numpy as np
import pytest

from sapiens_core.finish.detect import suppressed
from sapiens_core.finish.pose import heatmap_peaks, udp_decode
from sapiens_core.labels import keypoint_set
from sapiens_core.prepare.geometry import image_points, person_crops

HEATMAP_WH, INPUT_WH = np.array([48, 64]), np.array([192, 256])


@pytest.fixture(scope="module")
def vectors(golden2):
    return golden2("postprocess")


def input_pixels(heatmaps, wh, input_wh):
    keypoints, scores = udp_decode(heatmaps[None])
    return keypoints[0] / (wh - 1) * input_wh, scores[0]


def test_keypoints_equal_the_reference_wherever_the_score_is_positive(vectors):
    found, scores = input_pixels(vectors["udp_heatmaps"], HEATMAP_WH, INPUT_WH)
    expected = vectors["udp_keypoints_input_px"][0]
    np.testing.assert_array_equal(scores, vectors["udp_scores"][0])
    is_keypoint = scores > 0
    assert is_keypoint.sum() == 14
    np.testing.assert_allclose(found[is_keypoint], expected[is_keypoint], rtol=0, atol=1e-3)
    assert np.isfinite(found).all()


def test_a_heatmap_of_nothing_does_not_disturb_its_neighbours(vectors):
    """Where the reference answers NaN, and where it reads a neighbour's map."""
    first, second = vectors["udp_heatmaps"][:2]
    found, scores = input_pixels(np.stack([first, 0 * first, second]), HEATMAP_WH, INPUT_WH)
    expected = vectors["udp_zero_case_keypoints"][0]
    assert np.isnan(expected[1]).any()
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(scores, vectors["udp_zero_case_scores"][0])
    assert np.isfinite(found).all()


def test_released_heatmaps_are_decoded_to_where_they_were_drawn(vectors):
    found, scores = input_pixels(vectors["udp_full_heatmaps"], np.array([192, 256]), np.array([768, 1024]))
    np.testing.assert_allclose(found, vectors["udp_full_keypoints_decoded"][0], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(scores, vectors["udp_full_scores"][0])


def test_keypoints_in_the_whole_image_equal_the_reference(vectors):
    heatmaps = vectors["pose_none_heatmaps_flip_averaged"]
    keypoints, scores = udp_decode(heatmaps)
    crops = person_crops(vectors["pose_none_kept_bboxes"], (64, 48))
    found = image_points(keypoints, crops, heatmaps.shape[2:])
    is_keypoint = scores > 0
    assert is_keypoint.any()
    expected = vectors["pose_none_keypoints"]
    # Random heatmaps are flat in places, and a step from there goes far: by some share of it all is rounded.
    steps = np.abs(expected - image_points(heatmap_peaks(heatmaps)[0], crops, heatmaps.shape[2:]))
    errors = np.abs(found - expected) - 1e-3 * steps.max(axis=2, keepdims=True)
    assert errors[is_keypoint].max() <= 1e-3
    np.testing.assert_array_equal(scores, vectors["pose_none_scores"])


@pytest.mark.parametrize("overlap", ["0.3", "0.5"])
def test_suppression_equals_the_reference(overlap, vectors):
    bboxes, scores = vectors["nms_dets"][:, :4], vectors["nms_dets"][:, 4]
    kept = suppressed(bboxes, scores, max_overlap=float(overlap))
    np.testing.assert_array_equal(kept, vectors[f"nms_keep_{overlap}"])


def test_mirrored_keypoints_are_those_of_the_first_family(vectors):
    assert keypoint_set("goliath").flip_indices == tuple(vectors["flip_indices"])
