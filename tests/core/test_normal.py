import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from sapiens_core.finish.normal import unit_normals

TOLERANCE = 1e-5  # float32 sums of the same numbers in another order


def reference_normals(normal_map, network_hw, image_hw):
    values = torch.from_numpy(normal_map)[None]
    for size_hw in (network_hw, image_hw):
        if size_hw is not None:
            values = interpolate(values, size_hw, mode="bilinear", align_corners=False)
    normals = values[0].permute(1, 2, 0).numpy()
    return normals / (np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-5)


def facing_somewhere(rng, height, width):
    """Normals of any direction whose length stays away from 0, where directions are ill-conditioned."""
    return (rng.normal(size=(3, height, width)) * 0.2 + [[[0.5]], [[-0.3]], [[1]]]).astype(np.float32)


@pytest.mark.parametrize("case", range(3))
def test_normals_equal_the_lite_reference(case, golden):
    vectors = golden("normal_postprocess")
    expected = vectors[f"n{case}_normal"]
    normals = unit_normals(vectors[f"n{case}_raw"], None, expected.shape[:2])
    np.testing.assert_allclose(normals, expected, rtol=0, atol=TOLERANCE)


def test_two_interpolations_are_what_the_full_reference_does(golden):
    vectors = golden("net_normal")
    full = vectors["full_pred"].transpose(1, 2, 0)
    unit = full / (np.linalg.norm(full, axis=-1, keepdims=True) + 1e-5)
    # The output at hand is of the lite demos' pixels, whose mean and deviation are rounded.
    for network_hw, low, high in (((64, 48), 0, 0.02), (None, 0.1, 1)):
        normals = unit_normals(vectors["lite_output"], network_hw, full.shape[:2])
        assert low <= np.quantile(np.abs(normals - unit), 0.99) < high


@pytest.mark.parametrize("length", [1e-6, 1e-5, 1e-3])
def test_short_vectors_stay_short_like_in_the_reference(length):
    normal_map = np.zeros((3, 4, 3), np.float32)
    normal_map[1] = length
    normals = unit_normals(normal_map, None, (4, 3))
    np.testing.assert_allclose(normals[..., 1], length / (length + 1e-5), rtol=1e-5)


@pytest.mark.parametrize(
    ("head_hw", "network_hw", "image_hw"),
    [
        ((512, 384), (1024, 768), (1440, 1080)),
        ((64, 48), (128, 96), (17, 29)),
        ((64, 48), (128, 96), (1, 1)),
        ((64, 48), (128, 96), (3, 2000)),
        ((64, 48), (128, 96), (4000, 3)),
        ((64, 48), (64, 48), (64, 48)),
        ((64, 48), None, (90, 61)),
    ],
)
def test_normals_equal_torch_at_every_size(head_hw, network_hw, image_hw):
    normal_map = facing_somewhere(np.random.default_rng(0), *head_hw)
    normals = unit_normals(normal_map, network_hw, image_hw)
    assert normals.flags.c_contiguous
    expected = reference_normals(normal_map, network_hw, image_hw)
    np.testing.assert_allclose(normals, expected, rtol=0, atol=TOLERANCE)


def test_normals_have_unit_length():
    normals = unit_normals(facing_somewhere(np.random.default_rng(1), 32, 24), (64, 48), (50, 40))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=2), 1, atol=1e-4)


def test_a_zero_vector_stays_zero():
    assert not unit_normals(np.zeros((3, 4, 3), np.float32), None, (8, 6)).any()


def test_the_last_axis_is_x_y_z():
    normal_map = np.broadcast_to(np.float32([[[1]], [[2]], [[2]]]), (3, 4, 3)).copy()
    normals = unit_normals(normal_map, (8, 6), (5, 7))
    np.testing.assert_allclose(normals, np.broadcast_to([1 / 3, 2 / 3, 2 / 3], (5, 7, 3)), atol=1e-5)


@pytest.mark.parametrize("normal_map", [np.zeros((1, 4, 3), np.float32), np.zeros((3, 4, 3))])
def test_other_arrays_are_refused_with_their_shape(normal_map):
    with pytest.raises(ValueError, match=rf"\({len(normal_map)}, 4, 3\) {normal_map.dtype}"):
        unit_normals(normal_map, None, (8, 6))
