import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from sapiens_core.finish.bilinear import strips


@pytest.mark.parametrize(
    "sizes", [(512, 1024), (1024, 1440), (768, 3840), (768, 17), (96, 2000), (7, 7), (5, 1)]
)
def test_weights_are_those_of_torch_to_the_last_bit(sizes):
    size_in, size_out = sizes
    impulses = torch.eye(size_in)[None, :, None]
    expected = interpolate(impulses, (1, size_out), mode="bilinear", align_corners=False)[0, :, 0].numpy().T
    weights = np.zeros((size_out, size_in), np.float32)
    for strip in strips(sizes, 32):
        weights[strip.target, strip.source] = strip.weights
    np.testing.assert_array_equal(weights, expected)


def test_strips_cover_the_target_once():
    targets = [range(*strip.target.indices(100)) for strip in strips((20, 40, 100), 32)]
    assert [pixel for target in targets for pixel in target] == list(range(100))


def test_weights_of_a_pixel_sum_to_one():
    for strip in strips((20, 90, 77), 16):
        np.testing.assert_allclose(strip.weights.sum(axis=1), 1, atol=1e-6)
