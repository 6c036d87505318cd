"""The way from nothing to demo networks, at toy size."""

from __future__ import annotations

import json
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


# Runs commands one after the other in one process: what they import, and compile, is there after the first.
RUN_ALL = """
import json, runpy, sys
for module, *options in json.loads(sys.argv[1]):
    sys.argv = [module, *options]
    print("==", flush=True)
    runpy.run_module(f"training.{module}", run_name="__main__")
"""


@dataclass(frozen=True)
class Runner:
    """Runs modules of `training` with what they require.

    Attributes:
        place: The folder that they run in.
        requirements: Where the packages of `training/requirements.txt` and their caches lie.
    """

    place: Path
    requirements: Path

    def __call__(self, *commands):
        """Return what each command, a module and its options, printed."""
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}:{self.requirements}",
            "ANNY_CACHE_DIR": str(self.requirements / "anny_cache"),
            "NUMBA_CACHE_DIR": str(self.requirements / "numba_cache"),
            "OMP_NUM_THREADS": "1",  # threads that wait for each other would keep other tests waiting
        }
        words = json.dumps([[str(word) for word in command] for command in commands])
        finished = subprocess.run(
            [sys.executable, "-c", RUN_ALL, words],
            cwd=self.place, env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return finished.stdout.split("==\n")[1:]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    packages = installed(ROOT / "training" / "requirements.txt", "training")
    return Runner(tmp_path_factory.mktemp("training"), packages)


@pytest.fixture(scope="module")
def renders(run):
    """Eight renders, others by another seed, and the first few again, asked for bit by bit."""

    def render(folder, images, seed):
        return "render", "--output", folder, "--images", images, "--seed", seed

    grown = [render("grown", images, 1) for images in (2, 4, 3)]
    run(render("shards", 8, 1), render("other", 2, 2), *grown)
    names = ("shards/1_0000.npz", "other/2_0000.npz", "grown/1_0000.npz")
    return [dict(np.load(run.place / name)) for name in names]


def test_renders_are_full_of_people(renders):
    shard = renders[0]
    assert shard["image"].shape == (8, 256, 192, 3)
    is_person = shard["class_map"] > 0
    assert is_person.mean(axis=(1, 2)).min() >= 0.03
    normals = shard["normals"].astype(np.float32) / 127
    np.testing.assert_allclose(np.linalg.norm(normals[is_person], axis=1), 1, atol=0.02)
    towards_camera = normals[is_person][:, 2]
    assert (towards_camera >= 0).mean() > 0.99
    assert towards_camera.min() >= -0.6  # near the image's edges one looks aslant
    assert len(np.unique(shard["class_map"])) > 8


def test_renders_depend_on_the_seed_alone_and_a_short_shard_grows(renders):
    shard, other, grown = renders
    for name in shard:
        assert len(grown[name]) == 4
        np.testing.assert_array_equal(grown[name], shard[name][:4])
    assert np.any(shard["image"][:2] != other["image"])


def test_training_goes_on_where_it_stopped_and_its_networks_are_served(run, renders):
    folders = ("--shards", "shards", "--held-out", "other", "--batch", 4, "--report-every", 1)
    light = ("train", *folders, "--light", "--state", "light.pt", "--heights", "64:1")
    train = ("train", *folders, "--backbone", "light.pt", "--state", "run.pt", "--heights")
    printed = run(
        light,
        (*train, "64:2"),
        (*train, "64:2", "128:3"),
        ("write_networks", "run.pt", "networks", "--shards", "shards", "--steps", 1),
        ("evaluate", "networks", "--held-out", "other"),
    )
    steps = [[json.loads(line)["step"] for line in text.splitlines()] for text in printed[:3]]
    assert steps == [[1], [1, 2], [3]]
    for text in (*printed[:3], printed[4]):
        assert "silhouette IoU" in text
    results = photograph_results(run.place / "networks", PORTRAIT.read_bytes(), (16, 15, 365, 508))
    with np.load(OPINION) as opinion:
        found = agreement(results.class_map, results.keypoints, opinion)
    assert set(found.distances) == {"nose", "left_eye", "right_eye", "left_shoulder", "right_shoulder"}
    network = ("--network", "networks/features.json", "--checkpoint", "networks/features.safetensors")
    command = [Path(sys.executable).with_name("sapiens"), "export", "features", *network, "--plan"]
    plan = subprocess.run(command, cwd=run.place, check=True, capture_output=True, text=True).stdout
    assert "features.safetensors" in plan
