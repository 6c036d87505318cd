import numpy as np
import pytest
import torch

from sapiens_core.finish.pose import blurred_maxima, decoded_keypoints, heatmap_patches, heatmap_peaks
from sapiens_core.labels import keypoint_set
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS
from sapiens_export.engines.reduced import DTYPES, FlipAveraged, PoseReduction, ServedNetwork


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
        assert (
            ServedNetwork(torch.nn.Identity(), NORMALIZATIONS["full"], first_recipe(task))(pixels).dtype
            == dtype
        )


class Watching(torch.nn.Module):
    """Returns its input, and remembers it."""

    def forward(self, images):
        self.seen = images
        return images


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("preprocess", ["full", "lite"])
def test_pixels_are_normalised_in_float32_before_they_lose_digits(preprocess, precision):
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).T.reshape(1, 16, 16, 3)
    normalization = NORMALIZATIONS[preprocess]
    served = ServedNetwork(Watching(), normalization, first_recipe(Task.DEPTH), precision=precision)
    served(pixels)
    exact = (pixels.double() - torch.tensor(normalization.mean)) / torch.tensor(normalization.std)
    seen = served.network.seen.permute(0, 2, 3, 1)
    assert seen.dtype == DTYPES[precision]
    errors = ((seen.double() - exact).abs() / exact.abs()).numpy()
    assert errors.max() < torch.finfo(seen.dtype).eps * 0.51  # one rounding, the last


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("task", [task for task in Task if first_recipe(task).head])
def test_the_last_layer_computes_in_float32_whatever_the_precision(task, precision, tiny_weights):
    network, seen = tiny_weights(task), []
    served = ServedNetwork(network, NORMALIZATIONS["full"], first_recipe(task), precision=precision).eval()
    layer = served.network.last_layers[0]
    layer.register_forward_hook(lambda _module, inputs, output: seen.extend([inputs[0], output]))
    served(torch.zeros(1, *network.config.input_hw, 3, dtype=torch.uint8))
    assert [tensor.dtype for tensor in seen] == [torch.float32] * 2
    assert torch.equal(layer.weight, network.last_layers[0].weight)
    others = {id(weight) for weight in layer.parameters()}
    types = {weight.dtype for weight in served.network.parameters() if id(weight) not in others}
    assert types == {DTYPES[precision]}


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_the_flip_test_averages_in_float32(precision, tiny_weights):
    network, flip_indices = tiny_weights(Task.POSE), keypoint_set("coco").flip_indices
    served = ServedNetwork(
        network,
        NORMALIZATIONS["full"],
        first_recipe(Task.POSE),
        precision=precision,
        flip_indices=flip_indices,
    ).eval()
    images = torch.linspace(-2, 2, 3 * 64 * 48).reshape(1, 3, 64, 48).to(DTYPES[precision])
    direct, mirrored = served.network.network(torch.cat([images, images.flip(3)]))
    averaged = served.network(images)[0]
    assert averaged.dtype == torch.float32
    np.testing.assert_array_equal(averaged, (direct + mirrored.flip(2)[list(flip_indices)]) / 2)
    assert (averaged != averaged.to(DTYPES[precision])).float().mean() > 0.5
