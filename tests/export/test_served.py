import numpy as np
import pytest
import torch

from sapiens_core.labels import keypoint_set
from sapiens_core.postprocess.pose import blurred_maxima, decoded_keypoints, heatmap_patches, heatmap_peaks
from sapiens_core.tasks import NORMALIZATIONS, Task
from sapiens_export.served import FlipAveraged, PoseReduction, ServedNetwork


def heatmaps_of(golden, name):
    return golden(name)["heatmaps"][None]


@pytest.mark.parametrize("name", ["udp_clean_k17_full", "udp_noisy_k308", "udp_edges", "udp_odd_blur11"])
def test_the_reduction_in_the_engine_equals_the_one_on_arrays(name, golden):
    heatmaps = heatmaps_of(golden, name)
    peaks, scores, patches, blurred_max = (
        output.numpy() for output in PoseReduction()(torch.from_numpy(heatmaps))
    )
    expected_peaks, expected_scores = heatmap_peaks(heatmaps)
    np.testing.assert_array_equal(peaks, expected_peaks)
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(patches, heatmap_patches(heatmaps, expected_peaks))
    np.testing.assert_allclose(blurred_max, blurred_maxima(heatmaps), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["udp_clean_k17_full", "udp_noisy_k17", "udp_multipeak_k133", "udp_edges"])
def test_keypoints_decoded_from_the_reduction_equal_the_reference(name, golden):
    vectors = golden(name)
    reduced = [output.numpy() for output in PoseReduction()(torch.from_numpy(heatmaps_of(golden, name)))]
    heatmap_wh = vectors["heatmap_size_wh"]
    keypoints = decoded_keypoints(*reduced, (int(heatmap_wh[1]), int(heatmap_wh[0])))
    expected = vectors["mmpose_keypoints"] / vectors["input_size_wh"] * (heatmap_wh - 1)
    is_found = vectors["argmax_vals"] > 0
    np.testing.assert_allclose(keypoints[0, is_found], expected[0, is_found], rtol=0, atol=1e-4)


def test_the_reduction_is_three_hundred_times_smaller():
    reduced = PoseReduction()(torch.zeros(1, 308, 256, 192))
    num_bytes = sum(output.numel() * output.element_size() for output in reduced)
    assert num_bytes * 250 < 308 * 256 * 192 * 4


def test_the_flip_test_averages_with_the_mirrored_answer(golden):
    vectors = golden("net_pose17")
    direct, flip_indices = (
        torch.from_numpy(vectors["full_noflip_heatmaps"]),
        keypoint_set("coco").flip_indices,
    )

    class Answers(torch.nn.Module):
        def forward(self, images):
            return torch.cat([direct, direct.flip(3)[:, list(flip_indices)]])

    averaged = FlipAveraged(Answers(), flip_indices)(torch.zeros(3, 3, 64, 48))
    np.testing.assert_allclose(averaged, direct, rtol=0, atol=1e-6)


def test_logits_leave_as_float16_and_depth_as_float32():
    pixels = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    for task, dtype in ((Task.SEG, torch.float16), (Task.DEPTH, torch.float32)):
        assert ServedNetwork(torch.nn.Identity(), NORMALIZATIONS["full"], task)(pixels).dtype == dtype
