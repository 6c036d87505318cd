"""Points as pictures and files; persons cut out; colours of surfaces."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import trimesh
from PIL import Image

from sapiens_client import InvalidInputError, PointmapResult

EDGE = 0.04


def coarse(image: np.ndarray) -> np.ndarray:
    return image.astype(int)


def test_a_pointmap_is_points_depth_and_a_camera(pointmap_result):
    np.testing.assert_array_equal(pointmap_result.depth, pointmap_result.points[..., 2])
    assert (pointmap_result.valid.dtype, pointmap_result.valid.sum()) == (bool, 120 * 90 - 100)
    assert (pointmap_result.focal_px, pointmap_result.image_hw) == (100, (120, 90))
    seen = pointmap_result.points[50, 20] @ pointmap_result.intrinsics.T
    np.testing.assert_allclose(seen[:2] / seen[2], [20, 50], atol=1e-4)


def test_near_is_red_far_is_blue_and_unknown_is_grey(pointmap_result):
    picture = coarse(np.asarray(pointmap_result.plot()))
    assert (picture[5, 85] == 100).all()
    red, _, blue = picture[60, 30]
    assert red > blue
    red, _, blue = picture[60, 89]
    assert blue > red


def test_the_colours_span_the_foreground(pointmap_result):
    foreground = np.zeros((120, 90), bool)
    foreground[40:, 30:60] = True
    for picture in (
        pointmap_result.plot(foreground),
        replace(pointmap_result, foreground=foreground).plot(),
    ):
        colors = coarse(np.asarray(picture))
        assert (colors[~foreground] == 100).all()
        assert colors[60, 30, 0] > colors[60, 59, 0]
    with pytest.raises(InvalidInputError, match=r"\(120, 90\) like the points, got \(2, 2\)"):
        pointmap_result.plot(np.ones((2, 2), bool))


def test_another_program_reads_the_points_and_colours_of_a_ply(pointmap_result, photo, tmp_path):
    (path,) = pointmap_result.save(tmp_path / "a.ply")
    cloud = trimesh.load(path)
    np.testing.assert_array_equal(cloud.vertices, pointmap_result.points[pointmap_result.valid])
    np.testing.assert_array_equal(cloud.colors[:, :3], photo[pointmap_result.valid])


def test_another_program_reads_the_points_and_colours_of_a_glb(pointmap_result, photo, tmp_path):
    (path,) = pointmap_result.save(tmp_path / "a.glb")
    (cloud,) = trimesh.load(path, force="scene").geometry.values()
    expected = pointmap_result.points[pointmap_result.valid] * [1, -1, -1]
    np.testing.assert_allclose(cloud.vertices, expected, atol=1e-6)
    light = (photo[pointmap_result.valid] / 255) ** 2.2  # nearly what sRGB says
    assert np.abs(np.asarray(cloud.colors)[:, :3] / 255 - light).max() < 0.02


@pytest.mark.parametrize("suffix", ["ply", "glb"])
def test_a_mesh_has_an_edge_where_the_depth_jumps(pointmap_result, tmp_path, suffix):
    (path,) = pointmap_result.save(tmp_path / f"a.{suffix}", edge_tolerance=EDGE)
    (mesh,) = trimesh.load(path, force="scene", process=False).geometry.values()
    side = 1 if suffix == "ply" else -1
    expected = pointmap_result.points[pointmap_result.valid] * [1, side, side]
    np.testing.assert_allclose(mesh.vertices, expected, atol=1e-6)
    farther = mesh.triangles[:, :, 2] * side
    assert (farther.max(axis=1) / farther.min(axis=1)).max() < 1 + EDGE
    assert len(mesh.faces) > 0.9 * 2 * pointmap_result.valid.sum()
    assert (mesh.face_normals[:, 2] * side < 0).all()  # all face the viewer


def test_points_of_a_loaded_result_have_no_colours_unless_it_is_given_its_image(pointmap_result, tmp_path):
    pointmap_result.save(tmp_path / "a.npz")
    (path,) = PointmapResult.load(tmp_path / "a.npz").save(tmp_path / "a.ply")
    assert b"uchar red" not in path.read_bytes()[:300]
    image = pointmap_result.encoded_image.tobytes()
    (path,) = PointmapResult.load(tmp_path / "a.npz", image=image).save(tmp_path / "a.ply")
    assert b"uchar red" in path.read_bytes()[:300]


def test_the_foreground_alone_is_saved_where_it_is_known(pointmap_result, tmp_path):
    foreground = np.zeros((120, 90), bool)
    foreground[40:, 30:60] = True
    (path,) = replace(pointmap_result, foreground=foreground).save(tmp_path / "a.ply")
    assert len(trimesh.load(path).vertices) == foreground.sum()


def test_coordinates_are_channels_of_an_exr(pointmap_result, tmp_path):
    (path,) = pointmap_result.save(tmp_path / "a.exr")
    assert path.read_bytes()[:4] == b"v/1\x01"


@pytest.mark.parametrize(
    ("name", "tolerance", "sentence"),
    [
        ("a.png", EDGE, r"for \.ply and \.glb, got 'a.png'"),
        ("a.glb", 0, "above 0, got 0"),
        ("a.glb", "much", "'>' not supported"),
        ("a.obj", None, r"\.ply \(points"),
    ],
)
def test_files_that_cannot_be_are_refused(pointmap_result, tmp_path, name, tolerance, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        pointmap_result.save(tmp_path / name, edge_tolerance=tolerance)
    assert [*tmp_path.iterdir()] == []


def test_nothing_valid_is_no_file(pointmap_result, tmp_path):
    nothing = replace(pointmap_result, valid=np.zeros((120, 90), bool))
    with pytest.raises(InvalidInputError, match="glb needs points, got none"):
        nothing.save(tmp_path / "a.glb")
    lonely = np.zeros((120, 90), bool)
    lonely[3, 4] = True
    with pytest.raises(InvalidInputError, match="ply needs triangles, got none"):
        replace(pointmap_result, valid=lonely).save(tmp_path / "a.ply", edge_tolerance=EDGE)
    assert (np.asarray(nothing.plot()) == 100).all()


def test_a_cutout_has_straight_alpha(matting_result, tmp_path):
    (path,) = matting_result.save(tmp_path / "a.cutout.png")
    picture = np.asarray(Image.open(path)).astype(np.float32) / 255
    assert picture.shape == (120, 90, 4)
    np.testing.assert_allclose(picture[..., 3], matting_result.alpha, atol=0.51 / 255)
    again = picture[..., :3] * matting_result.alpha[..., None]
    np.testing.assert_allclose(again, matting_result.foreground, atol=0.51 / 255)
    assert (picture[0, 0] == 0).all()


def test_a_composite_is_the_foreground_over_the_background(matting_result, photo):
    for background in (photo, Image.fromarray(photo), (1, 2, 3), [1, 2, 3]):
        behind = np.asarray(background) / 255
        expected = matting_result.foreground + (1 - matting_result.alpha[..., None]) * behind
        picture = np.asarray(matting_result.composite(background)).astype(np.float32)
        np.testing.assert_allclose(picture, expected * 255, atol=0.51)
    assert np.asarray(matting_result.plot())[0, 0].tolist() == [0, 177, 64]


@pytest.mark.parametrize(
    ("background", "sentence"),
    [
        (np.zeros((2, 2, 3), np.uint8), r"\(120, 90, 3\) like the image, got \(2, 2, 3\)"),
        ((0.5, 0.5, 0.5), "whole numbers of 0..255, got float64"),
        ((0, 0, 256), "whole numbers"),
        ("green", "got"),
    ],
)
def test_backgrounds_that_are_none_are_refused(matting_result, background, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        matting_result.composite(background)


def test_the_premultiplied_foreground_is_kept_in_the_npz(matting_result, tmp_path):
    matting_result.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as saved:
        np.testing.assert_array_equal(saved["foreground"], matting_result.foreground)


def test_albedo_is_a_picture_grey_outside_the_foreground(albedo_result):
    np.testing.assert_array_equal(np.asarray(albedo_result), albedo_result.albedo)
    np.testing.assert_array_equal(np.asarray(albedo_result.plot()), albedo_result.albedo)
    foreground = np.arange(120 * 90).reshape(120, 90) % 2 == 0
    picture = np.asarray(replace(albedo_result, foreground=foreground).plot())
    assert (picture[~foreground] == 100).all()
    np.testing.assert_array_equal(picture[foreground], albedo_result.albedo[foreground])
    with pytest.raises(InvalidInputError, match=r"\(2, 2\)"):
        albedo_result.plot(np.ones((2, 2), bool))


def test_the_colours_are_turbo_of_opencv(pointmap_result):
    flat = replace(
        pointmap_result, points=np.full((120, 90, 3), 2, np.float32), valid=np.ones((120, 90), bool)
    )
    turbo = cv2.applyColorMap(np.full((1, 1), 255, np.uint8), cv2.COLORMAP_TURBO)[0, 0, ::-1]
    assert (np.asarray(flat.plot()) == turbo).all()
