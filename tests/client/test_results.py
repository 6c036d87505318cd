from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sapiens_client import InvalidInputError
from sapiens_core.labels import KeypointSet
from sapiens_core.pictures import depth_picture

ELBOWS = ("left_elbow", "right_elbow")


def test_the_result_knows_the_size_of_its_image(result):
    assert result.image_hw == (31, 17)


def test_plot_has_the_colours_of_the_reference(result):
    np.testing.assert_array_equal(np.asarray(result.plot()), depth_picture(result.depth))


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_plot_greys_what_is_not_foreground(result, dtype):
    foreground = np.zeros((31, 17), dtype)
    foreground[5:9, 3:8] = 1
    picture = np.asarray(result.plot(foreground))
    np.testing.assert_array_equal(picture, depth_picture(result.depth, foreground.astype(bool)))


def test_plot_refuses_a_foreground_of_another_shape(result):
    with pytest.raises(InvalidInputError, match=r"\(3, 4\)"):
        result.plot(np.ones((3, 4), bool))


def test_a_saved_picture_is_the_plot(result, tmp_path):
    (path,) = result.save(tmp_path / "depth.PNG")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(result.plot()))


@pytest.mark.parametrize("name", ["depth.jpg", "depth.JPEG"])
def test_a_picture_may_be_a_jpeg(result, tmp_path, name):
    (path,) = result.save(tmp_path / name)
    with Image.open(path) as picture:
        assert (picture.format, picture.mode, path.name) == ("JPEG", "RGB", name)
        assert picture.size == result.plot().size


@pytest.mark.parametrize("kind", ["pose", "detections", "seg_result", "normal_result", "feature_result"])
def test_every_result_has_a_jpeg(request, tmp_path, kind):
    (path,) = request.getfixturevalue(kind).save(tmp_path / "a.jpg")
    with Image.open(path) as picture:
        assert picture.format == "JPEG"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("result", "depth"),
        ("normal_result", "normals"),
        ("seg_result", "class_map"),
        ("feature_result", "features"),
    ],
)
def test_numpy_takes_a_result_of_one_array_as_that(request, kind, name):
    result = request.getfixturevalue(kind)
    expected = getattr(result, name)
    assert np.asarray(result).dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(result), expected)
    assert np.asarray(result, dtype=np.float64).dtype == np.float64
    assert np.max(result) == expected.max()
    assert np.array(result).flags.writeable


@pytest.mark.parametrize("kind", ["pose", "detections"])
def test_numpy_is_told_which_arrays_a_result_has(request, kind):
    with pytest.raises(InvalidInputError, match=r"got .*bboxes.*; take the attribute"):
        np.asarray(request.getfixturevalue(kind))


def test_a_saved_array_is_exact(result, tmp_path):
    (path,) = result.save(str(tmp_path / "depth.npy"))
    np.testing.assert_array_equal(np.load(path), result.depth)


def test_16_bits_are_right_to_half_a_step(result, tmp_path):
    path, sidecar = result.save(tmp_path / "depth.16.png")
    facts = json.loads(sidecar.read_text())
    levels = np.asarray(Image.open(path)).astype(np.float64)
    assert sidecar.name == "depth.16.json"
    assert (levels.min(), levels.max()) == (0, 65535)
    np.testing.assert_allclose(
        facts["offset"] + facts["scale"] * levels, result.depth, atol=0.5001 * facts["scale"]
    )


def test_16_bits_hold_constant_depth_exactly(result, tmp_path):
    flat = dataclasses.replace(result, depth=np.full((3, 4), 0.7, np.float32))
    path, sidecar = flat.save(tmp_path / "flat.16.png")
    facts = json.loads(sidecar.read_text())
    restored = facts["offset"] + facts["scale"] * np.asarray(Image.open(path))
    np.testing.assert_array_equal(restored.astype(np.float32), flat.depth)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_16_bits_refuse_depth_that_is_not_finite(result, tmp_path, value):
    depth = result.depth.copy()
    depth[3, 4] = value
    with pytest.raises(InvalidInputError, match=f"got .*{value}"):
        dataclasses.replace(result, depth=depth).save(tmp_path / "depth.16.png")


@pytest.mark.parametrize("name", ["depth.jpg.gif", "depth", "depth.ids.png", "depth.json"])
def test_other_suffixes_are_refused_and_the_right_ones_named(result, tmp_path, name):
    with pytest.raises(InvalidInputError, match=rf"\.png .*\.npy .*\.16\.png .*'{name}'"):
        result.save(tmp_path / name)


def test_notebooks_get_the_picture(result):
    shown = Image.open(io.BytesIO(result._repr_png_()))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(result.plot()))
    assert result._repr_html_() is None  # its colours are no names


def test_notebooks_get_a_large_picture_smaller(result):
    large = dataclasses.replace(result, depth=np.zeros((1300, 2600), np.float32))
    assert Image.open(io.BytesIO(large._repr_png_())).size == (640, 320)


def test_notebooks_get_names_in_their_colours_and_a_picture_of_few_bytes(seg_result, pose):
    for shown in (seg_result, pose):
        page = shown._repr_html_()
        entries = re.findall(r"rgb\((\d+), (\d+), (\d+)\)\">&#9632;</span> ([^<]+)", page)
        assert {name: tuple(map(int, color)) for *color, name in entries} == shown.legend
        (jpeg,) = re.findall(r"base64,([^\"]+)", page)
        picture = Image.open(io.BytesIO(base64.b64decode(jpeg)))
        assert picture.size == shown.plot().size
        assert abs(np.asarray(picture).astype(float) - np.asarray(shown.plot())).mean() < 16


def test_the_legend_names_what_the_picture_has(seg_result, pose):
    known = seg_result.class_set
    two = dataclasses.replace(seg_result, class_map=np.repeat(np.uint8([[0], [3]]), 90, axis=1).repeat(60, 0))
    assert two.legend == {known.names[each]: known.palette[each] for each in (0, 3)}
    scores = np.zeros((2, 17), np.float32)
    scores[0, 7] = scores[1, 8] = 0.5
    elbows = dataclasses.replace(pose, scores=scores).legend
    assert elbows == {name: pose.keypoint_set.colors[7 + each] for each, name in enumerate(ELBOWS)}
    assert pose[:0].legend == {}
    assert pose[:0]._repr_html_() is None


def test_names_are_no_html_and_many_are_folded(make_pose):
    names = ("<script>", *map(str, range(99)))
    keypoints = KeypointSet("", names, (), (), ((1, 2, 3),) * 100, ())
    pose = make_pose(keypoints)
    page = dataclasses.replace(pose, scores=np.ones_like(pose.scores))._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<details><summary>100 names" in page


def test_a_result_without_its_image_is_shown_as_words(pose):
    alone = dataclasses.replace(pose, encoded_image=np.zeros(0, np.uint8))
    assert alone._repr_png_() is alone._repr_html_() is None


def test_results_cannot_be_changed(result):
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.depth = result.depth + 1


FORMATS = ["depth.png", "depth.npy", "depth.npz", "depth.16.png", "depth.exr"]


def test_an_interruption_between_picture_and_facts_leaves_no_picture_with_foreign_facts(result, tmp_path):
    path, sidecar = result.save(tmp_path / "depth.16.png")
    sidecar.unlink()
    sidecar.mkdir()  # taking the name of the facts fails then
    with pytest.raises(IsADirectoryError):
        dataclasses.replace(result, depth=2 * result.depth).save(path)
    assert [*tmp_path.iterdir()] == [sidecar]


@pytest.mark.parametrize("name", FORMATS)
def test_a_result_replaces_a_file_and_leaves_no_other(result, tmp_path, name):
    result.save(tmp_path / name)
    expected = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(b"of another run")
    files = result.save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == expected
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_a_saved_file_has_the_permissions_of_any_new_file(result, tmp_path):
    (tmp_path / "other").touch()
    (path,) = result.save(tmp_path / "depth.npy")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_stays_one(result, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "depth.npy").symlink_to(tmp_path / "there" / "target.npy")
    result.save(tmp_path / "depth.npy")
    assert (tmp_path / "depth.npy").is_symlink()
    np.testing.assert_array_equal(np.load(tmp_path / "there" / "target.npy"), result.depth)


def test_an_interruption_leaves_what_was_there(result, tmp_path):
    program = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from sapiens_client.results.saving import _new_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as a full disk
with _new_file(Path(sys.argv[1])) as file:
    np.save(file, np.zeros(10_000))
"""
    (path,) = result.save(tmp_path / "depth.npy")
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert "Error" in done.stderr
    np.testing.assert_array_equal(np.load(path), result.depth)
    assert list(tmp_path.iterdir()) == [path]
