import numpy as np
import pytest

from sapiens_core.finish.pose import (
    blurred_maxima,
    decoded_keypoints,
    heatmap_patches,
    heatmap_peaks,
    image_keypoints,
    udp_decode,
)
from sapiens_core.prepare.geometry import image_points, person_bboxes, person_crops

CASES = [
    "udp_clean_k17_full",
    "udp_clean_k308",
    "udp_edges",
    "udp_multipeak_k133",
    "udp_noisy_k17",
    "udp_noisy_k308",
    "udp_odd_blur5",
    "udp_odd_blur11",
    "udp_odd_blur17",
]
CELLS_TOLERANCE = 1e-4  # float32 sums in another order than OpenCV's


def decode_whole(heatmaps, patch_size):
    return udp_decode(heatmaps, patch_size=patch_size)[0]


def decode_patches(heatmaps, patch_size):
    peaks, scores = heatmap_peaks(heatmaps)
    patches = heatmap_patches(heatmaps, peaks, patch_size=patch_size)
    blurred_max = blurred_maxima(heatmaps, patch_size=patch_size)
    return decoded_keypoints(peaks, scores, patches, blurred_max, heatmaps.shape[2:])


def bumps(positions, height=40, width=30, sigma=3.0):
    """(N, K, 2) x and y -> (N, K, h, w) float32 with a bump of height 0.8 at each."""
    rows, columns = np.mgrid[:height, :width]
    x, y = np.moveaxis(np.asarray(positions, np.float64), 2, 0)[..., None, None]
    return (0.8 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))).astype(np.float32)


@pytest.fixture
def heatmaps():
    """(3, 5, 40, 30) float32: bumps with some noise, a few of them nearly gone."""
    rng = np.random.default_rng(0)
    strength = rng.uniform(0.01, 1.2, (3, 5, 1, 1))
    clean = strength * bumps(rng.uniform((0, 0), (29, 39), (3, 5, 2)))
    return (clean + rng.normal(0, 0.005, clean.shape)).astype(np.float32)


@pytest.mark.parametrize("decode", [decode_whole, decode_patches])
@pytest.mark.parametrize("case", CASES)
def test_keypoints_equal_the_reference_wherever_the_score_is_positive(case, decode, golden):
    vectors = golden(case)
    keypoints = decode(vectors["heatmaps"][None], int(vectors["blur_kernel_size"]) + 2)
    cells = vectors["lite_keypoints"] / vectors["input_size_wh"] * (vectors["heatmap_size_wh"] - 1)
    is_found = vectors["lite_scores"] > 0
    np.testing.assert_allclose(keypoints[is_found], cells[is_found], rtol=0, atol=CELLS_TOLERANCE)
    assert np.isfinite(keypoints).all()


@pytest.mark.parametrize("case", CASES)
def test_peaks_and_scores_equal_the_reference(case, golden):
    vectors = golden(case)
    peaks, scores = heatmap_peaks(vectors["heatmaps"][None])
    is_found = vectors["argmax_vals"] > 0
    np.testing.assert_array_equal(scores, vectors["lite_scores"])
    np.testing.assert_array_equal(peaks[0][is_found], vectors["argmax_locs"][is_found])


def test_keypoints_in_the_image_equal_the_reference(golden):
    vectors = golden("topdown")
    heatmaps = vectors["back_heatmaps"]
    peaks, scores = heatmap_peaks(heatmaps)
    engine_output = (peaks, scores, heatmap_patches(heatmaps, peaks), blurred_maxima(heatmaps))
    crops = person_crops(vectors["boxes_xyxy"][:3], tuple(vectors["crop_hw"].tolist()))
    keypoints = image_keypoints(*engine_output, crops, heatmaps.shape[2:])
    is_found = vectors["back_scores"] > 0
    np.testing.assert_allclose(
        keypoints[is_found], vectors["full_back_keypoints"][is_found], rtol=0, atol=1e-3
    )
    assert keypoints.dtype == np.float32


@pytest.mark.parametrize("case", ["full_noflip", "full_flip"])
def test_keypoints_of_a_random_network_equal_the_reference(case, golden):
    vectors = golden("net_pose17")
    heatmaps = vectors[f"{case}_heatmaps"]
    keypoints, scores = udp_decode(heatmaps)
    crops = person_crops(vectors["e2e_boxes"], vectors["input"].shape[2:])
    located = image_points(keypoints, crops, heatmaps.shape[2:])
    # Its heatmaps are nearly flat, so that a few keypoints hang on the last bit.
    errors = np.abs(located - vectors[f"{case}_keypoints"])[scores > 0]
    assert np.median(errors) < 1e-3
    assert np.quantile(errors, 0.98) < 0.2


def test_without_a_box_the_reference_crops_the_whole_image(golden):
    vectors = golden("net_pose17")
    bboxes = person_bboxes(None, vectors["e2e_image_bgr"].shape[:2], max_bboxes=1)
    np.testing.assert_array_equal(bboxes, vectors["full_nobox_bbox"])


def test_patches_hold_the_surroundings_and_zero_beyond_the_border(heatmaps):
    peaks = np.zeros((3, 5, 2), np.int32) + np.int32([28, 1])
    patches = heatmap_patches(heatmaps, peaks)
    assert patches.shape == (3, 5, 13, 13)
    np.testing.assert_array_equal(patches[:, :, 5:, :8], heatmaps[:, :, :8, 22:])
    assert not patches[:, :, :5].any()
    assert not patches[:, :, :, 8:].any()


@pytest.mark.parametrize("decode", [decode_whole, decode_patches])
def test_a_shifted_heatmap_shifts_the_keypoints(decode):
    positions = np.array([[[12.3, 15.6], [14.1, 20.2]]])
    shift = decode(bumps(positions + np.array([3, 5])), 13) - decode(bumps(positions), 13)
    np.testing.assert_allclose(shift, np.broadcast_to([3, 5], (1, 2, 2)), atol=1e-4)


@pytest.mark.parametrize("decode", [decode_whole, decode_patches])
def test_the_middle_of_a_bump_is_found(decode):
    positions = np.array([[[12.3, 15.6], [14.5, 20.25]]])
    np.testing.assert_allclose(decode(bumps(positions), 13), positions, atol=0.02)


@pytest.mark.parametrize("decode", [decode_whole, decode_patches])
@pytest.mark.parametrize(("peak", "is_moved"), [(49.8, True), (50.5, False), (500.0, False)])
def test_cells_above_fifty_count_as_fifty_like_in_the_reference(peak, is_moved, decode):
    heatmap = bumps([[[12.3, 15.4]]], sigma=20) * np.float32(peak / 0.8)
    keypoints = decode(heatmap, 13)[0, 0]
    assert (np.abs(keypoints - [12, 15]).max() > 0.1) == is_moved


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_scaling_crops_scales_keypoints_around_their_centers(factor, heatmaps):
    peaks, scores = heatmap_peaks(heatmaps)
    engine_output = (peaks, scores, heatmap_patches(heatmaps, peaks), blurred_maxima(heatmaps))
    crops = np.float32([[50, 60, 30, 40], [10, 20, 60, 80], [0, 0, 90, 120]])
    scaled = crops * np.float32([1, 1, factor, factor])
    offsets, scaled_offsets = (
        image_keypoints(*engine_output, used, (40, 30)) - used[:, None, :2] for used in (crops, scaled)
    )
    np.testing.assert_allclose(scaled_offsets, offsets * factor, rtol=0, atol=1e-4)


def test_permuting_persons_or_keypoints_permutes_the_result(heatmaps):
    persons, joints = [2, 0, 1], [4, 1, 0, 3, 2]
    keypoints, _ = udp_decode(heatmaps)
    permuted, _ = udp_decode(heatmaps[persons][:, joints])
    np.testing.assert_array_equal(permuted, keypoints[persons][:, joints])


def test_patches_and_whole_heatmaps_give_the_same_keypoints(heatmaps):
    np.testing.assert_allclose(decode_whole(heatmaps, 13), decode_patches(heatmaps, 13), rtol=0, atol=1e-3)


def test_the_heatmaps_are_left_unchanged(heatmaps):
    before = heatmaps.copy()
    udp_decode(heatmaps)
    blurred_maxima(heatmaps)
    np.testing.assert_array_equal(heatmaps, before)


@pytest.mark.parametrize("value", [0.0, -0.25])
def test_a_silent_heatmap_keeps_its_peak_inside(value):
    heatmaps = np.full((1, 2, 40, 30), value, np.float32)
    heatmaps[0, 1] -= 1
    heatmaps[0, 1, 7, 4] = value
    keypoints, scores = udp_decode(heatmaps)
    assert keypoints.tolist() == [[[0, 0], [4, 7]]]
    assert scores.tolist() == [[value, value]]


@pytest.mark.parametrize("decode", [decode_whole, decode_patches])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_never_reach_the_keypoints(value, decode, heatmaps):
    heatmaps[0, 0] = value
    heatmaps[1, :, 3, 4] = value
    assert np.isfinite(decode(heatmaps, 13)).all()


def test_a_negative_blur_of_a_positive_peak_gives_a_finite_keypoint():
    heatmaps = np.full((1, 1, 40, 30), -1, np.float32)
    heatmaps[0, 0, 20, 10] = 0.01
    np.testing.assert_array_equal(decode_whole(heatmaps, 13), decode_patches(heatmaps, 13))
    assert np.isfinite(decode_whole(heatmaps, 13)).all()


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (2, 2), (5, 3)])
def test_heatmaps_smaller_than_a_patch_are_decoded(hw):
    heatmaps = np.random.default_rng(0).uniform(0.1, 1, (2, 3, *hw)).astype(np.float32)
    # One row has no curvature across it, so that the last bit of the blur shows.
    np.testing.assert_allclose(decode_whole(heatmaps, 13), decode_patches(heatmaps, 13), rtol=0, atol=0.05)


def test_no_persons_have_no_keypoints():
    keypoints, scores = udp_decode(np.zeros((0, 17, 40, 30), np.float32))
    assert keypoints.shape == (0, 17, 2)
    assert scores.shape == (0, 17)


@pytest.mark.parametrize(
    "heatmaps", [np.zeros((17, 64, 48), np.float32), np.zeros((1, 17, 64, 48), np.float16)]
)
@pytest.mark.parametrize("function", [heatmap_peaks, blurred_maxima, udp_decode])
def test_other_heatmaps_are_refused_with_their_shape(function, heatmaps):
    with pytest.raises(ValueError, match=rf"\(N, K, h, w\) float32, got \(.*48\) {heatmaps.dtype}"):
        function(heatmaps)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("peaks", np.zeros((5, 2), np.int32), r"peaks must be \(N, K, 2\), got \(5, 2\)"),
        ("peaks", np.full((3, 5, 2), 35, np.int32), r"\(h, w\) = \(40, 30\), got up to \[35, 35\]"),
        ("scores", np.zeros((3, 4), np.float32), r"scores must be \(3, 5\) like peaks, got \(3, 4\)"),
        ("patches", np.zeros((3, 5, 12, 12), np.float32), r"odd P, got \(3, 5, 12, 12\)"),
        ("blurred_max", np.zeros(3, np.float32), r"blurred_max must be \(3, 5\) like peaks, got \(3,\)"),
        ("crops", np.zeros((2, 4), np.float32), r"crops must be \(3, 4\) like peaks, got \(2, 4\)"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(name, array, message):
    arrays = {
        "peaks": np.zeros((3, 5, 2), np.int32),
        "scores": np.zeros((3, 5), np.float32),
        "patches": np.zeros((3, 5, 13, 13), np.float32),
        "blurred_max": np.zeros((3, 5), np.float32),
        "crops": np.ones((3, 4), np.float32),
    }
    with pytest.raises(ValueError, match=message):
        image_keypoints(**{**arrays, name: array}, heatmap_hw=(40, 30))
