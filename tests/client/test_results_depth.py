"""Relative depth to metres and points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sapiens_client import DepthResult, InvalidInputError

INTRINSICS = [[20, 0, 8], [0, 20, 15], [0, 0, 1]]


@pytest.fixture
def depth(make) -> DepthResult:
    return make(DepthResult, depth=np.random.default_rng(0).random((31, 17), np.float32))


@pytest.fixture
def metres(depth) -> np.ndarray:
    return 1 / (1 - 0.5 * depth.depth)


def test_a_map_in_metres_tells_the_metres_of_all_pixels(depth, metres):
    known = metres.copy()
    known[::2] = np.nan
    known[1::4] = 0
    aligned = depth.align_to(known)
    np.testing.assert_allclose(aligned.depth, metres, rtol=1e-5)
    assert (depth.unit, depth.alignment, aligned.unit) == ("", None, "m")
    assert (aligned.alignment.scale, aligned.alignment.shift) == pytest.approx((-0.5, 1), rel=1e-5)
    assert aligned.alignment.num_known == np.isfinite(known[known != 0]).sum()
    assert not aligned.depth.flags.writeable


def test_some_points_are_enough(depth, metres):
    points = [[x, y, metres[y, x]] for x, y in ((0, 0), (16, 30), (3, 7))]
    np.testing.assert_allclose(depth.align_to(points).depth, metres, rtol=1e-4)


def test_points_of_another_network_are_known_metres_where_they_are_valid(pointmap_result):
    truth = np.where(pointmap_result.valid, pointmap_result.depth, 50)
    relative = replace(
        DepthResult(depth=np.float32(1 - 1 / truth), **vars_of(pointmap_result)), foreground=None
    )
    aligned = relative.align_to(pointmap_result)
    np.testing.assert_allclose(aligned.depth[pointmap_result.valid], truth[pointmap_result.valid], rtol=1e-4)
    assert aligned.alignment.num_known == pointmap_result.valid.sum()
    np.testing.assert_allclose(relative.align_to(aligned).depth, aligned.depth, rtol=1e-3)


def vars_of(result) -> dict[str, object]:
    return {name: getattr(result, name) for name in ("model", "timing", "encoded_image")}


def test_metres_outside_the_foreground_do_not_count(depth, metres):
    foreground = np.zeros(depth.image_hw, bool)
    foreground[5:20] = True
    elsewhere = np.where(foreground, metres, 0.1)
    for aligned in (
        depth.align_to(elsewhere, foreground=foreground),
        replace(depth, foreground=foreground).align_to(elsewhere),
    ):
        np.testing.assert_allclose(aligned.depth, metres, rtol=1e-5)
        assert aligned.alignment.num_known == foreground.sum()


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        (np.ones((3, 4)), r"\(31, 17\) like the image, .*shape \(3, 4\)"),
        ([[0, 0, 1], [17, 0, 2]], r"17 x 31 pixels, got \[17.0, 0.0\]"),
        ([[0, 0, 1], [np.nan, 0, 2]], r"got \[nan, 0.0\]"),
        ([[0, 0, 1]], "two different depths"),
        ("near", "numbers, got 'near'"),
    ],
)
def test_metres_that_fit_no_image_are_refused(depth, metric, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        depth.align_to(metric)


def test_relative_depth_and_wrong_masks_are_refused(depth, metres):
    with pytest.raises(InvalidInputError, match="metric must be in metres"):
        depth.align_to(depth)
    with pytest.raises(InvalidInputError, match=r"foreground must be \(31, 17\)"):
        depth.align_to(metres, foreground=np.ones((3, 3), bool))
    with pytest.raises(InvalidInputError, match="must grow with the depth"):
        depth.align_to(1 / metres)


def test_only_metres_become_points(depth, metres):
    with pytest.raises(InvalidInputError, match=r"must be in metres .* call `align_to` first"):
        depth.to_points(INTRINSICS)
    points = depth.align_to(metres).to_points(INTRINSICS)
    np.testing.assert_allclose(points.depth, metres, rtol=1e-5)
    seen = points.points @ np.float32(INTRINSICS).T
    np.testing.assert_allclose(seen[..., 0] / seen[..., 2], np.mgrid[:31, :17][1], atol=1e-4)
    assert (points.focal_px, points.valid.all(), points.scale) == (20, True, None)
    with pytest.raises(InvalidInputError, match="shape \\(2, 2\\)"):
        depth.align_to(metres).to_points(np.eye(2))


def test_depth_beyond_infinity_is_unknown_grey_and_no_point(make):
    depth = make(DepthResult, depth=np.float32([[0, 0.5, 1, 4]]))
    aligned = depth.align_to([[0, 0, 1], [1, 0, 2]])
    np.testing.assert_allclose(aligned.depth, [[1, 2, np.nan, np.nan]])
    assert np.asarray(aligned.plot())[0, 2:].tolist() == [[100] * 3] * 2
    assert aligned.to_points(INTRINSICS).valid.tolist() == [[True, True, False, False]]


def test_metres_are_loaded_as_metres(depth, metres, tmp_path):
    aligned = depth.align_to(metres)
    aligned.save(tmp_path / "a.npz")
    loaded = DepthResult.load(tmp_path / "a.npz")
    assert (loaded.unit, loaded.alignment) == ("m", aligned.alignment)
    depth.save(tmp_path / "b.npz")
    assert DepthResult.load(tmp_path / "b.npz").unit == ""
