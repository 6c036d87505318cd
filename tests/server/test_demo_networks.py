"""What the demo networks see in the portrait, served: against kept results, independent judges, and the tour.

The last command of training/README.md, with `--keep tests/golden/portrait`, keeps them after a new training.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import astuple, replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from sapiens_client import SapiensClient
from sapiens_core.labels import keypoint_set
from sapiens_core.recipes.recipe import Task
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.networks.config import DEMO_NETWORKS, demo_network
from sapiens_export.weights.licences import DEMO_LICENCE
from sapiens_export.weights.sources import built_in_detector, source_from_checkpoint
from sapiens_server import serve
from scripts.write_tour import TOUR, executed
from training.evaluate import Results, agreement, differences, load_results

ROOT = Path(__file__).parents[2]
PORTRAIT = ROOT / "assets" / "eileen_collins.jpg"
GOLDEN = ROOT / "tests" / "golden" / "portrait"
BBOX = (16, 15, 365, 508)  # xyxy, where the built-in detector finds her
TASKS = (Task.DEPTH, Task.NORMAL, Task.SEG, Task.POSE, Task.FEATURES)
# Share of pixels with another class, degrees, mean deviations, pixels. Other CPUs and versions of torch round
# otherwise, which moves edges by a pixel; a fault of any step moves far more, as the mutations below show.
ALLOWED = (0.005, 0.5, 0.02, 0.5)
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("demo") / "models"
    for task in TASKS:
        source = source_from_checkpoint(task, DEMO_NETWORKS / f"{task}.safetensors", demo_network(task))
        export_engine(source, repository, EngineOptions(licence=DEMO_LICENCE))
    export_engine(built_in_detector(), repository)
    with serve(repository, grpc_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with SapiensClient(server.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def ask(client):
    def results(image, bbox=BBOX):
        analysis, pose = client.analyze(image), client.pose(image, bboxes=[bbox])
        return Results(
            class_map=analysis.seg.class_map,
            normals=analysis.normal.normals,
            depth=analysis.depth.depth,
            keypoints=pose.keypoints[0],
            scores=pose.scores[0],
        )

    return results


@pytest.fixture(scope="module")
def expected():
    return load_results(GOLDEN / "results.npz")


@pytest.fixture(scope="module")
def portrait():
    return np.asarray(Image.open(PORTRAIT))


def exceeded(results, expected):
    """Which of the four differences are larger than allowed."""
    found = astuple(differences(results, expected))
    return tuple(not value <= limit for value, limit in zip(found, ALLOWED, strict=True))  # NaN exceeds


def test_the_portrait_looks_as_it_did(ask, expected):
    assert not any(exceeded(ask(PORTRAIT), expected))


def test_swapped_channels_show(ask, expected, portrait):
    assert all(exceeded(ask(np.ascontiguousarray(portrait[:, :, ::-1])), expected))


@pytest.mark.parametrize("shift", [(0, 6), (6, 0)], ids=["sideways", "down"])
def test_a_shifted_image_shows(ask, expected, portrait, shift):
    assert all(exceeded(ask(np.roll(portrait, shift, axis=(0, 1))), expected))


@pytest.mark.parametrize("shift", [(9, 0), (0, 9)], ids=["sideways", "down"])
def test_a_crop_that_is_not_where_its_keypoints_are_put_back_shows(ask, expected, shift):
    shifted = ask(PORTRAIT, bbox=np.array(BBOX) + np.tile(shift, 2))
    misplaced = replace(shifted, keypoints=shifted.keypoints - np.float32(shift))
    assert exceeded(misplaced, expected) == (False, False, False, True)


def test_a_mirrored_image_shows(ask, expected, portrait):
    assert all(exceeded(ask(np.ascontiguousarray(portrait[:, ::-1])), expected))


def test_mirrored_joints_show(ask, expected):
    results = ask(PORTRAIT)
    mirrored = results.keypoints[list(keypoint_set("coco").flip_indices)]
    assert exceeded(replace(results, keypoints=mirrored), expected) == (False, False, False, True)


def test_numbers_that_are_none_show(ask, expected):
    results = ask(PORTRAIT)
    for name, where in (("normals", 1), ("depth", 2), ("keypoints", 3)):
        nothing = replace(results, **{name: np.full_like(getattr(results, name), np.nan)})
        assert [index for index, value in enumerate(exceeded(nothing, expected)) if value] == [where]


def test_normals_in_another_frame_show(ask, expected):
    results = ask(PORTRAIT)
    for signs in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        turned = replace(results, normals=results.normals * np.float32(signs))
        assert exceeded(turned, expected) == (False, True, False, False)


def test_depth_turned_inside_out_shows(ask, expected):
    results = ask(PORTRAIT)
    assert exceeded(replace(results, depth=-results.depth), expected) == (False, False, True, False)


def test_independent_judges_agree(ask):
    results = ask(PORTRAIT)
    with np.load(GOLDEN / "judges.npz") as opinion:
        found = agreement(results.class_map, results.keypoints, opinion)
    assert found.outline_iou >= 0.75
    face = [found.distances[name] for name in ("nose", "left_eye", "right_eye")]
    assert max(face) <= 0.03


def test_results_say_whose_networks_they_are(client):
    for result in (client.depth(PORTRAIT), client.pose(PORTRAIT)):
        assert (result.model.family, result.model.size, result.model.untrained) == ("sapiens", "demo", False)
        assert "not Meta's weights" in result.model.licence
    sizes = {card.info.task: card.info.size for card in client.models().values()}
    assert {sizes[task] for task in TASKS} == {"demo"}


def shown(notebook):
    """What each cell shows: words with their numbers taken out, the numbers, and pictures."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/jpeg" in data:
                yield "", [], np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"])))) / 255
            else:
                words = output.get("text") or data["text/plain"]
                yield re.sub(NUMBER, "0", words), [float(each) for each in re.findall(NUMBER, words)], None


def test_the_tour_runs_and_shows_what_is_committed(server, monkeypatch):
    monkeypatch.setenv("SAPIENS_URL", server.grpc_url)
    committed, fresh = [*shown(nbformat.read(TOUR, as_version=4))], [*shown(executed(TOUR))]
    assert [words for words, _, _ in fresh] == [words for words, _, _ in committed]
    for (words, numbers, picture), (_, expected, kept) in zip(fresh, committed, strict=True):
        np.testing.assert_allclose(numbers, expected, atol=1, err_msg=words)
        if kept is not None:
            assert abs(picture - kept).mean() < 0.02


def test_the_tour_is_small_enough_to_look_at():
    assert TOUR.stat().st_size < 1_000_000
