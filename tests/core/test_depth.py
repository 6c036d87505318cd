import numpy as np
import pytest

from sapiens_core.finish.depth import image_depth
from sapiens_core.pictures import BACKGROUND_GREY, depth_picture


@pytest.mark.parametrize("case", range(3))
def test_depth_at_image_size_equals_the_reference(case, golden):
    vectors = golden("depth_postprocess")
    depth = image_depth(vectors[f"d{case}_raw"][0], vectors[f"d{case}_image_bgr"].shape[:2])
    np.testing.assert_allclose(depth, vectors[f"d{case}_depth"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", range(3))
def test_the_picture_equals_the_reference(case, golden):
    vectors = golden("depth_postprocess")
    picture = depth_picture(vectors[f"d{case}_depth"], vectors[f"d{case}_mask"])
    np.testing.assert_array_equal(picture[:, :, ::-1], vectors[f"d{case}_depth_color_bgr"])


def test_full_pipeline_depth_of_the_network_equals_the_reference(golden):
    vectors = golden("net_depth")
    depth = image_depth(vectors["lite_output"][0], vectors["e2e_image_bgr"].shape[:2])
    assert depth.shape == vectors["full_pred"].shape[1:]


def test_near_is_brighter_than_far():
    picture = depth_picture(np.array([[0.0, 1.0]], np.float32))
    assert picture[0, 0].sum() > picture[0, 1].sum()


def test_constant_depth_is_all_near():
    picture = depth_picture(np.full((2, 2), 3, np.float32))
    np.testing.assert_array_equal(
        picture, np.broadcast_to(depth_picture(np.zeros((1, 1), np.float32)), (2, 2, 3))
    )


def test_without_foreground_pixels_everything_is_grey():
    picture = depth_picture(np.zeros((2, 3), np.float32), np.zeros((2, 3), bool))
    assert (picture == BACKGROUND_GREY).all()


@pytest.mark.parametrize("depth_map", [np.zeros((1, 4, 3), np.float32), np.zeros((4, 3), np.float64)])
def test_other_arrays_are_refused_with_their_shape(depth_map):
    with pytest.raises(ValueError, match=rf"{depth_map.dtype}"):
        image_depth(depth_map, (8, 6))


def test_a_foreground_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 3\) like depth, got \(3, 4\)"):
        depth_picture(np.zeros((4, 3), np.float32), np.zeros((3, 4), bool))
