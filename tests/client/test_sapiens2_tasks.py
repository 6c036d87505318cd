"""The tasks of the second family by every way of asking, and programs that ask both families."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
import trimesh
from PIL import Image
from typer.testing import CliRunner

from sapiens_client import (
    AlbedoResult,
    AsyncSapiensClient,
    MattingResult,
    PointmapResult,
    SapiensClient,
)
from sapiens_client.cli.commands import app
from sapiens_client.testing import FakeServer

KINDS = {"pointmap": PointmapResult, "matting": MattingResult, "albedo": AlbedoResult}


@pytest.fixture(scope="module")
def server():
    with FakeServer(models=(*KINDS, "seg", "depth", "pointmap_0.8b")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with SapiensClient(server.url) as client:
        yield client


@pytest.mark.parametrize(("task", "kind"), KINDS.items())
def test_a_method_a_map_and_an_analysis_answer_the_same(client, server, photo, task, kind):
    result = getattr(client, task)(photo)
    assert (type(result), result.image_hw, result.model.family) == (kind, (120, 90), "sapiens2")

    async def awaited():
        async with AsyncSapiensClient(server.url) as other:
            return await getattr(other, task)(photo)

    analysis = client.analyze(photo, (task,))
    others = [next(client.map(task, [photo])).result, analysis[task], asyncio.run(awaited())]
    for other in (*others, getattr(analysis, task)):
        assert type(other) is kind
        for name, array in result.arrays().items():
            np.testing.assert_array_equal(other.arrays()[name], array)
            assert not other.arrays()[name].flags.writeable
    assert result.plot().size == (90, 120)


def test_types_and_shapes_are_those_of_the_contract(client, photo):
    points = client.pointmap(photo, model="pointmap_0.8b")
    assert {name: (array.shape, array.dtype) for name, array in points.arrays().items()} == {
        "points": ((120, 90, 3), np.float32),
        "valid": ((120, 90), bool),
        "focal_length": ((1,), np.float32),
        "intrinsics": ((3, 3), np.float32),
        "scale": ((1,), np.float32),
    }
    assert points.focal_px == points.intrinsics[0, 0] > 0
    assert points.model.size == "0.8b"
    matte = client.matting(photo)
    assert (matte.alpha.shape, matte.foreground.shape) == ((120, 90), (120, 90, 3))
    assert client.albedo(photo).albedo.dtype == np.uint8


def test_classes_tell_points_and_albedo_where_the_person_is(client, photo):
    analysis = client.analyze(photo, ("pointmap", "albedo", "matting", "seg"))
    for result in (analysis.pointmap, analysis.albedo):
        np.testing.assert_array_equal(result.foreground, analysis.seg.foreground)
    assert analysis.matting.foreground.shape == (120, 90, 3)
    assert analysis.failed == {}


def test_what_is_asked_unless_told_fits_the_family_that_is_served(photo):
    for models in (
        ("pointmap", "normal", "seg"),
        ("depth", "normal", "seg"),
        ("normal", "seg", "pointmap", "depth"),
    ):
        with FakeServer(models=models) as server, SapiensClient(server.url) as client:
            analysis = client.analyze(photo)
        assert (next(iter(analysis)), analysis.failed) == ("depth" if "depth" in models else "pointmap", {})


def test_a_relative_depth_takes_the_metres_of_a_pointmap(client, photo):
    points = client.pointmap(photo)
    aligned = client.depth(photo).align_to(points)
    assert (aligned.unit, aligned.alignment.num_known) == ("m", points.valid.sum())
    assert aligned.to_points(points.intrinsics).focal_px == points.focal_px


def hair_and_glasses(client: SapiensClient, image: np.ndarray) -> tuple[np.ndarray, bool]:
    """As a program that names classes finds them, whatever network is served."""
    result = client.seg(image)
    return result.mask("Hair", "Face_Neck"), "Eyeglass" in result.classes


def test_a_program_that_names_classes_works_with_both_families(photo):
    masks = {}
    for classes, glasses in (("goliath", False), ("sapiens2", True)):
        with FakeServer(models=("seg",), classes=classes) as server, SapiensClient(server.url) as client:
            mask, has_glasses = hair_and_glasses(client, photo)
            result = client.seg(photo)
        ids = [result.classes.index(name) for name in ("Hair", "Face_Neck")]
        assert has_glasses == glasses
        assert ids == ([4, 3] if glasses else [3, 2])
        np.testing.assert_array_equal(mask, np.isin(result.class_map, ids))
        masks[classes] = result.to_rle()
    assert masks["goliath"] != masks["sapiens2"]


@pytest.mark.parametrize("keypoints", ["coco", "coco_wholebody", "goliath"])
def test_a_program_that_names_keypoints_works_with_every_network(photo, keypoints):
    with FakeServer(models=("pose",), keypoints=keypoints) as server, SapiensClient(server.url) as client:
        pose = client.pose(photo)
    assert pose[0]["left_elbow"] == pose.to("coco")[0]["left_elbow"] == pose.to("openpose25")[0]["left_elbow"]


@pytest.fixture
def sapiens(server, photo, tmp_path, monkeypatch):
    """Run the command in an empty folder with a photo."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("a.png")
    return lambda *arguments: CliRunner(env={"SAPIENS_URL": server.url}).invoke(app, [*map(str, arguments)])


@pytest.mark.parametrize(
    ("task", "formats"),
    [
        ("pointmap", {"picture": ".png", "ply": ".ply", "glb": ".glb", "npz": ".npz"}),
        ("matting", {"picture": ".png", "cutout": ".cutout.png", "exr": ".exr"}),
        ("albedo", {"picture": ".png", "npy": ".npy"}),
    ],
)
def test_a_command_writes_what_is_wanted(sapiens, tmp_path, task, formats):
    done = sapiens(task, "a.png", *(f"--format={name}" for name in formats), "--json")
    assert done.exit_code == 0, done.output
    files = json.loads(done.stdout)["results"][task]["files"]
    assert files == [f"out/a.png_{task}{suffix}" for suffix in formats.values()]
    assert "licence of the weights: Sapiens2" in done.stderr


def test_a_command_writes_meshes_where_an_edge_is_told(sapiens, tmp_path):
    for flags, kind in ((), trimesh.PointCloud), (("--edge-tolerance", 5), trimesh.Trimesh):
        assert sapiens("pointmap", "a.png", "--format", "glb", "--format", "npz", *flags).exit_code == 0
        (geometry,) = trimesh.load(tmp_path / "out/a.png_pointmap.glb", force="scene").geometry.values()
        assert isinstance(geometry, kind)
    refused = sapiens("pointmap", "a.png", "--edge-tolerance", 0.04)
    assert (refused.exit_code, "needs --format ply or glb" in refused.output) == (2, True)


def test_cutouts_are_no_images_of_a_later_run(sapiens):
    assert sapiens("matting", "a.png", "--format", "cutout", "-o", ".").exit_code == 0
    again = sapiens("matting", ".", "--format", "cutout", "-o", ".")
    assert "1 done" in again.stderr
    assert "1 results of earlier runs" in again.stderr
