import numpy as np
import pytest

from sapiens_core.surfaces.alignment import Alignment, alignment, metric_depth
from sapiens_core.surfaces.camera import unprojected
from sapiens_core.surfaces.mesh import triangles

DEPTH = np.random.default_rng(0).random(5000, np.float32)
METRES = 1 / (0.9 - 0.6 * DEPTH.astype(np.float64))


def test_scale_and_shift_are_found_in_inverse_depth():
    found = alignment(DEPTH, METRES)
    assert (found.scale, found.shift) == pytest.approx((-0.6, 0.9), rel=1e-6)
    assert (found.num_known, found.inliers) == (5000, 1)
    assert found.median_error < 1e-6
    np.testing.assert_allclose(metric_depth(DEPTH, found), METRES, rtol=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45])
def test_outliers_do_not_count_and_are_told(share):
    metres = METRES.copy()
    wrong = np.random.default_rng(1).random(len(metres)) < share
    metres[wrong] = 0.4
    found = alignment(DEPTH, metres)
    assert (found.scale, found.shift) == pytest.approx((-0.6, 0.9), rel=1e-6)
    assert found.inliers == pytest.approx(1 - share, abs=0.02)


def test_noise_is_averaged():
    noise = np.random.default_rng(2).normal(scale=0.02, size=len(DEPTH))
    found = alignment(DEPTH, 1 / (1 / METRES + noise))
    assert (found.scale, found.shift) == pytest.approx((-0.6, 0.9), abs=0.005)
    assert 0.01 < found.median_error < 0.05


def test_two_distances_are_enough():
    found = alignment(np.float32([0, 1]), np.float64([1, 4]))
    assert (found.scale, found.shift, found.num_known) == pytest.approx((-0.75, 1, 2))


def test_what_is_unknown_does_not_count():
    depth = np.float32([0, 1, 0.5, np.nan, 0.5, 0.5])
    found = alignment(depth, np.float64([1, 4, np.nan, 3, 0, np.inf]))
    assert found.num_known == 2


@pytest.mark.parametrize(
    ("depth", "metres", "sentence"),
    [
        ([], [], "two different depths .* got 0"),
        ([0.5, 0.5], [1, 2], "two different depths .* got 1"),
        ([0, 1], [np.nan, 2], "got 1"),
        ([0, 1, 2], [4, 2, 1], "must grow with the depth"),
    ],
)
def test_what_cannot_be_aligned_is_refused(depth, metres, sentence):
    with pytest.raises(ValueError, match=sentence):
        alignment(np.float32(depth), np.float64(metres))


def test_beyond_infinity_is_nowhere():
    metres = metric_depth(np.float32([[0, 1, 2, np.nan]]), Alignment(-1, 1, 2, 1, 0))
    np.testing.assert_array_equal(metres, [[1, np.nan, np.nan, np.nan]])


def test_points_project_to_their_pixels():
    depth = np.random.default_rng(3).uniform(1, 3, (6, 5)).astype(np.float32)
    intrinsics = np.array([[50, 1, 2], [0, 60, 2.5], [0, 0, 1]])
    points = unprojected(depth, intrinsics)
    seen = points @ intrinsics.T
    rows, columns = np.mgrid[:6, :5]
    np.testing.assert_allclose(seen[..., 0] / seen[..., 2], columns, atol=1e-5)
    np.testing.assert_allclose(seen[..., 1] / seen[..., 2], rows, atol=1e-5)
    np.testing.assert_array_equal(points[..., 2], depth)


@pytest.mark.parametrize(
    ("intrinsics", "sentence"),
    [
        (np.eye(2), r"shape \(2, 2\)"),
        (np.full((3, 3), np.nan), "finite"),
        (np.diag([0.0, 1, 1]), "above 0"),
        (np.array([[5.0, 0, 0], [0, 5, 0], [2, 2, 1]]), "transpose"),
    ],
)
def test_no_camera_is_refused(intrinsics, sentence):
    with pytest.raises(ValueError, match=sentence):
        unprojected(np.ones((2, 2), np.float32), intrinsics)


def test_a_plane_is_covered_by_two_triangles_a_square_that_face_the_camera():
    depth = np.full((3, 4), 2, np.float32)
    faces = triangles(depth, np.ones((3, 4), bool), 0.01)
    assert faces.shape == (2 * 2 * 3, 3)
    points = unprojected(depth, np.array([[4, 0, 1.5], [0, 4, 1], [0, 0, 1]])).reshape(-1, 3)[faces]
    normals = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    np.testing.assert_allclose(normals, [[0, 0, -0.25]] * 12, atol=1e-6)


def test_edges_and_unknown_points_are_not_bridged():
    depth = np.float32([[1, 1, 2, 2], [1, 1, 2, 2]])
    valid = np.ones((2, 4), bool)
    assert len(triangles(depth, valid, 0.04)) == 4
    assert len(triangles(depth, valid, 1.5)) == 6
    valid[0, 0] = False
    np.testing.assert_array_equal(triangles(depth, valid, 0.04), [[1, 5, 2], [0, 3, 4], [2, 5, 6]])
    with pytest.raises(ValueError, match="above 0, got 0"):
        triangles(depth, valid, 0)
