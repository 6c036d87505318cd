import numpy as np
import pytest

from sapiens_core.finish.depth import nearness, normals_from_depth
from sapiens_core.pictures import depth_normal_picture, normal_picture

CENTER, RADIUS = 50, 40
LEFT, RIGHT, MIDDLE = slice(20, 40), slice(61, 81), slice(35, 66)


@pytest.fixture(scope="module")
def sphere():
    """A ball before a camera: its depth, larger is farther, and its silhouette."""
    y, x = np.mgrid[:101, :101] - CENTER
    bulge = np.maximum(RADIUS**2 - x**2 - y**2, 0)
    return (200 - np.sqrt(bulge)).astype(np.float32), bulge > 0


def test_x_points_right_y_down_and_z_away_from_the_camera(sphere):
    normals = normals_from_depth(*sphere)
    assert (normals[MIDDLE, RIGHT, 0] > 0).all()
    assert (normals[MIDDLE, LEFT, 0] < 0).all()
    assert (normals[RIGHT, MIDDLE, 1] > 0).all()
    assert (normals[LEFT, MIDDLE, 1] < 0).all()
    assert (normals[MIDDLE, MIDDLE, 2] < 0).all()


def test_the_nearest_point_of_a_sphere_faces_the_camera(sphere):
    np.testing.assert_allclose(normals_from_depth(*sphere)[CENTER, CENTER], [0, 0, -1], atol=1e-3)


def test_normals_lean_along_the_line_from_the_middle(sphere):
    normals = normals_from_depth(*sphere)
    y, x = np.mgrid[:101, :101] - CENTER
    known = np.isfinite(normals).all(axis=2) & (np.hypot(x, y) > 5)
    cross = normals[..., 0] * y - normals[..., 1] * x
    assert np.abs(cross / np.maximum(np.hypot(x, y), 1))[known].max() < 0.02


def test_all_of_a_normal_is_nan_where_its_window_leaves_the_foreground(sphere):
    depth, foreground = sphere
    unknown = np.isnan(normals_from_depth(depth, foreground))
    padded = np.pad(foreground, 3, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
    np.testing.assert_array_equal(unknown, np.repeat(~windows.all(axis=(2, 3))[..., None], 3, axis=2))


def test_normals_have_unit_length(sphere):
    np.testing.assert_allclose(np.linalg.norm(normals_from_depth(sphere[0]), axis=2), 1, atol=1e-4)


def test_constant_depth_faces_the_camera():
    normals = normals_from_depth(np.full((9, 12), 3, np.float32))
    np.testing.assert_allclose(normals, np.broadcast_to([0, 0, -1], normals.shape), atol=1e-4)


def test_lengths_are_a_hundred_thousandth_longer_like_in_the_reference():
    normals = normals_from_depth(np.full((9, 12), 3, np.float32))
    np.testing.assert_allclose(normals[..., 2], -1 / (1 + 1e-5), rtol=3e-7)
    assert not normals[..., :2].any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (400, 3)])
def test_small_images_have_normals_everywhere(shape):
    depth = np.random.default_rng(0).random(shape, dtype=np.float32)
    assert np.isfinite(normals_from_depth(depth)).all()


def test_without_foreground_there_are_no_normals():
    assert np.isnan(normals_from_depth(np.zeros((9, 9), np.float32), np.zeros((9, 9), bool))).all()


def test_nearness_spans_the_foreground():
    depth = np.array([[1, 2, 5, 9]], np.float32)
    near = nearness(depth, np.array([[True, True, True, False]]))
    np.testing.assert_allclose(near, [[1, 0.75, 0, np.inf]])


@pytest.mark.parametrize("case", range(3))
def test_the_picture_equals_the_reference(case, golden):
    vectors = golden("depth_postprocess")
    picture = depth_normal_picture(vectors[f"d{case}_depth"], vectors[f"d{case}_mask"])
    np.testing.assert_array_equal(picture[:, :, ::-1], vectors[f"d{case}_normal_from_depth_bgr"])


@pytest.mark.parametrize("case", range(3))
def test_normals_are_those_of_the_reference_where_they_are_known(case, golden):
    vectors = golden("depth_postprocess")
    normals = normals_from_depth(vectors[f"d{case}_depth"], vectors[f"d{case}_mask"])
    known = np.isfinite(normals).all(axis=2)
    picture = normal_picture(normals)[:, :, ::-1]
    np.testing.assert_array_equal(picture[known], vectors[f"d{case}_normal_from_depth_bgr"][known])


def test_depth_is_left_unchanged(sphere):
    depth, foreground = sphere
    before = depth.copy()
    normals_from_depth(depth, foreground)
    np.testing.assert_array_equal(depth, before)


@pytest.mark.parametrize("depth", [np.zeros((1, 4, 3), np.float32), np.zeros((4, 3), np.float64)])
def test_other_arrays_are_refused_with_their_shape(depth):
    with pytest.raises(ValueError, match=rf"4, 3\) {depth.dtype}"):
        normals_from_depth(depth)


def test_a_foreground_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 3\) like depth, got \(3, 4\)"):
        normals_from_depth(np.zeros((4, 3), np.float32), np.zeros((3, 4), bool))
