"""The package alone, in environments of its own: other interpreters, other versions of numpy, other packages.

Needs pip and a package index. With PYTHONS="python3.11 python3.12 python3.13" all of these are tried, with
numpy 1.26 too, which is built from source for 3.13; the first also with the oldest versions of everything.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sapiens_core.contract.settings import PeopleSettings, StepSettings
from sapiens_core.recipes.recipe import Task
from sapiens_export.networks.config import NANODET
from sapiens_export.parity import pipeline
from sapiens_export.repository.configs import step_settings
from sapiens_export.repository.serving import Serving

ROOT = Path(__file__).parents[2]
INPUT_HW = (64, 48)
SETTINGS = PeopleSettings(step_settings(NANODET, Serving()), StepSettings(INPUT_HW, 4), num_keypoints=17)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["opencv"]]
OLDEST = tuple(re.sub(r">=([\d.]+).*", r"==\1.*", dependency) for dependency in DEPENDENCIES)
PYTHONS = os.environ.get("PYTHONS", "").split()
CASES = [(python, (numpy,)) for python in PYTHONS for numpy in ("numpy<2", "numpy>=2")]
CASES += [(python, OLDEST) for python in PYTHONS[:1]]


@pytest.mark.slow
@pytest.mark.parametrize(("python", "versions"), CASES or [(sys.executable, ("numpy>=2",))])
def test_the_client_alone_does_everything_that_it_can(
    python, versions, tasks_server, engine_of, picture_of_people, encode, tmp_path
):
    image, answers = tmp_path / "people.png", tmp_path / "answers"
    image.write_bytes(encode(picture_of_people([(10, 20, 300), (330, 120, 280)])))
    answers.mkdir()
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    alone = tmp_path / "venv" / "bin" / "python"
    install = [alone, "-m", "pip", "install", "--quiet", "--prefer-binary", f"{ROOT}[opencv]", *versions]
    subprocess.run(install, check=True)
    program = [Path(__file__).with_name("plain_install.py"), tasks_server.grpc_url, image, answers]
    subprocess.run([alone, "-I", "-W", "error", *program], cwd=tmp_path, check=True)
    check(answers, expected(image.read_bytes(), engine_of))


BROUGHT = ("opencv-python", "tritonclient")
LOOK_AT_THEM = """
import hashlib, json, sys
from importlib.metadata import distribution, distributions
import cv2, tritonclient.grpc, tritonclient.http

files = [file for name in sys.argv[1:] for file in distribution(name).files if ".pyc" not in file.name]
hashes = {str(file): hashlib.sha256(file.locate().read_bytes()).hexdigest() for file in files}
names = {each.name for each in distributions()} - {*sys.argv}
others = [name for name in names if name.startswith("opencv")]
window = [line.split()[1] for line in cv2.getBuildInformation().splitlines() if "GUI:" in line]
print(json.dumps([hashes, others, window]))
"""


@pytest.mark.slow
def test_what_users_bring_stays_whole(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--prefer-binary"]
    subprocess.run([*install, "opencv-python>=4.10,<5", "tritonclient[grpc,http]"], check=True)

    def seen():
        command = [python, "-I", "-c", LOOK_AT_THEM, *BROUGHT]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    before = seen()
    subprocess.run([*install, ROOT], check=True)
    assert seen() == before
    _, others, window = before
    assert not others
    assert window != ["NONE"]
    subprocess.run([python, "-I", "-c", "import sapiens_client; sapiens_client.SapiensClient()"], check=True)


@pytest.mark.slow
def test_who_brings_no_opencv_is_told_what_to_install(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    command = [python, "-c", "import sapiens_core"]
    result = subprocess.run(command, cwd=ROOT / "core", capture_output=True, text=True)
    assert result.returncode == 1
    assert (
        "one build of OpenCV must be there, got none; pip install 'sapiens-triton[opencv]'" in result.stderr
    )


@pytest.mark.slow
def test_a_source_distribution_makes_the_same_package(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "hatchling"], check=True)

    def built(folder, target):
        command = [python, "-m", "hatchling", "build", "-t", target, "-d", tmp_path / folder.name]
        subprocess.run(command, cwd=folder, check=True)
        return next((tmp_path / folder.name).glob("*.tar.gz" if target == "sdist" else "*.whl"))

    with tarfile.open(built(ROOT, "sdist")) as sources:
        sources.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("sapiens_triton-*")
    names = [zipfile.ZipFile(built(folder, "wheel")).namelist() for folder in (ROOT, unpacked)]
    assert sorted(names[0]) == sorted(names[1])
    assert "sapiens_export/demo_networks/depth.safetensors" in names[0]


def expected(encoded, engine_of):
    """Compute in this process what the server is asked for."""
    keypoints, scores = pipeline.pose(encoded, engine_of(Task.POSE), SETTINGS.pose)
    bboxes, bbox_scores = pipeline.detect(encoded, engine_of(Task.DETECT), SETTINGS.detect)
    everybody = pipeline.people_pose(encoded, engine_of(Task.DETECT), engine_of(Task.POSE), SETTINGS)
    return {
        "depth": {"depth": pipeline.depth(encoded, engine_of(Task.DEPTH), INPUT_HW)},
        "normal": {"normals": pipeline.normals(encoded, engine_of(Task.NORMAL), INPUT_HW)},
        "seg": {"class_map": pipeline.classes(encoded, engine_of(Task.SEG), INPUT_HW)},
        "features": {"features": pipeline.features(encoded, engine_of(Task.FEATURES), (64, 64))},
        "pose": {"keypoints": keypoints, "scores": scores},
        "detect": {"bboxes": bboxes, "scores": bbox_scores},
        "people": {"keypoints": everybody.keypoints, "scores": everybody.scores},
    }


def check(answers, expected_answers):
    for task, arrays in expected_answers.items():
        with np.load(answers / f"{task}.npz") as served:
            for name, array in arrays.items():
                tolerance = 1e-2 if name in ("keypoints", "bboxes") else 1e-5  # pixels, else as everywhere
                np.testing.assert_allclose(
                    served[name], array, rtol=0, atol=tolerance, err_msg=f"{task} {name}"
                )
