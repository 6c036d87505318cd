"""The way from nothing to demo networks, at toy size."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from packages_beside import installed

from training.evaluate import agreement, photograph_results

ROOT = Path(__file__).parents[2]
PORTRAIT = ROOT / "assets" / "eileen_collins.jpg"
OPINION = ROOT / "tests" / "golden" / "portrait" / "judges.npz"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Runner:
    """Runs modules of `training` with what they require.

    Attributes:
        place: The folder that they run in.
        requirements: Where the packages of `training/requirements.txt` and their caches lie.
    """

    place: Path
    requirements: Path

    def __call__(self, module, *options):
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}:{self.requirements}",
            "ANNY_CACHE_DIR": str(self.requirements / "anny_cache"),
            "NUMBA_CACHE_DIR": str(self.requirements / "numba_cache"),
        }
        command = [sys.executable, "-m", f"training.{module}", *map(str, options)]
        finished = subprocess.run(
            command, cwd=self.place, env=environment, check=True, capture_output=True, text=True
        )
        return finished.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    packages = installed(ROOT / "training" / "requirements.txt", "training")
    return Runner(tmp_path_factory.mktemp("training"), packages)


@pytest.fixture(scope="module")
def shards(run):
    run("render", "--output", "shards", "--images", 24, "--seed", 1)
    return run.place / "shards"


def test_renders_are_full_of_people_and_depend_on_the_seed_alone(run, shards):
    run("render", "--output", "again", "--images", 24, "--seed", 1)
    run("render", "--output", "other", "--images", 4, "--seed", 2)
    first, again, other = (
        np.load(run.place / folder / name)
        for folder, name in (("shards", "1_0000.npz"), ("again", "1_0000.npz"), ("other", "2_0000.npz"))
    )
    assert first["image"].shape == (24, 256, 192, 3)
    for name in first.files:
        np.testing.assert_array_equal(first[name], again[name])
    assert np.any(first["image"][:4] != other["image"])
    is_person = first["class_map"] > 0
    assert is_person.mean(axis=(1, 2)).min() >= 0.03
    normals = first["normals"].astype(np.float32) / 127
    np.testing.assert_allclose(np.linalg.norm(normals[is_person], axis=1), 1, atol=0.02)
    towards_camera = normals[is_person][:, 2]
    assert (towards_camera >= 0).mean() > 0.99
    assert towards_camera.min() >= -0.6  # near the image's edges one looks aslant
    assert len(np.unique(first["class_map"])) > 8


def test_a_short_shard_is_rendered_again_when_more_images_are_asked_for(run, shards):
    for images in (4, 8, 6):
        run("render", "--output", "grown", "--images", images, "--seed", 1)
    with np.load(run.place / "grown" / "1_0000.npz") as grown, np.load(shards / "1_0000.npz") as whole:
        np.testing.assert_array_equal(grown["image"], whole["image"][:8])


def test_training_goes_on_where_it_stopped_and_its_networks_are_served(run, shards):
    options = ("--shards", shards, "--held-out", shards, "--state", "run.pt", "--batch", 4)
    first = run("train", *options, "--heights", "64:2", "--report-every", 1)
    assert [line.split(",")[0] for line in first.splitlines()] == ['{"step": 1', '{"step": 2']
    second = run("train", *options, "--heights", "64:2", "128:3", "--report-every", 1)
    assert [line.split(",")[0] for line in second.splitlines()] == ['{"step": 3']
    assert '"silhouette IoU"' in second
    run("write_networks", "run.pt", "networks", "--shards", shards, "--steps", 2)
    assert "silhouette IoU" in run("evaluate", "networks", "--held-out", shards)
    results = photograph_results(run.place / "networks", PORTRAIT.read_bytes(), (16, 15, 365, 508))
    with np.load(OPINION) as opinion:
        found = agreement(results.class_map, results.keypoints, opinion)
    assert set(found.distances) == {"nose", "left_eye", "right_eye", "left_shoulder", "right_shoulder"}
    for task in ("depth", "features", "normal", "pose", "seg"):
        network = ("--network", f"networks/{task}.json", "--checkpoint", f"networks/{task}.safetensors")
        command = [Path(sys.executable).with_name("sapiens"), "export", task, *network, "--plan"]
        plan = subprocess.run(command, cwd=run.place, check=True, capture_output=True, text=True).stdout
        assert f"{task}.safetensors" in plan
