"""`--size demo`: the small networks that come with the project."""

from __future__ import annotations

import json

import pytest
from demo_parity import ENGINES
from typer import Typer
from typer.testing import CliRunner

from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import SAPIENS
from sapiens_export.commands.export import export_command
from sapiens_export.commands.zoo import zoo_command
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.networks.config import DEMO_NETWORKS, demo_network, released_network
from sapiens_export.weights.hashes import file_sha256
from sapiens_export.weights.licences import DEMO_LICENCE
from sapiens_export.weights.sources import source_from_checkpoint
from training.network import demo_config

NETWORKS = [Task(task) for task in SAPIENS.recipes]
MOST_BYTES = 28e6
# ONNX files take longest to make; float16 is farther off.
SLOW_AND_EXACT = ("onnx", "float32")
EXPORTS = [
    (task, *engine)
    for task in NETWORKS
    for engine in ENGINES
    if task is Task.POSE or engine != SLOW_AND_EXACT
]


@pytest.fixture
def run():
    app = Typer(pretty_exceptions_enable=False)
    app.command("export")(export_command)
    app.command("zoo")(zoo_command)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("task", NETWORKS)
def test_it_is_the_architecture_that_was_trained(task):
    assert demo_network(task) == released_network(task, "demo") == demo_config(task)
    assert demo_network(task).size == "demo"


def test_the_files_stay_small():
    files = sorted(DEMO_NETWORKS.glob("*.safetensors"))
    assert [file.stem for file in files] == sorted(NETWORKS)
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES


@pytest.mark.parametrize("task", NETWORKS)
def test_its_weights_need_no_licence_accepted_and_say_whose_they_are(run, task, tmp_path):
    result = run("export", task, "--size", "demo", "--repository", tmp_path)
    assert result.exit_code == 0, result.output
    assert DEMO_LICENCE in result.output
    facts = json.loads((tmp_path / f"{task}_engine" / "manifest.json").read_text())
    assert (facts["size"], facts["untrained"], facts["licence"]) == ("demo", False, DEMO_LICENCE)
    assert facts["checkpoint_sha256"] == file_sha256(DEMO_NETWORKS / f"{task}.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(("task", "runtime", "precision"), EXPORTS)
def test_trained_engines_of_all_kinds_are_close_to_float32(task, runtime, precision, tmp_path):
    source = source_from_checkpoint(task, DEMO_NETWORKS / f"{task}.safetensors", demo_network(task))
    export = export_engine(source, tmp_path / "models", EngineOptions(runtime, precision))
    assert export.parity.is_passed
    assert not export.info.untrained


def test_the_plan_says_that_nothing_is_downloaded(run):
    result = run("export", "depth", "--size", "demo", "--plan")
    assert result.exit_code == 0
    assert "depth.safetensors" in result.output
    assert "part of this project" in " ".join(result.output.split())


def test_random_weights_of_its_size_stay_random(run, tmp_path):
    result = run("export", "depth", "--size", "demo", "--random-weights", "--repository", tmp_path)
    facts = json.loads((tmp_path / "depth_engine" / "manifest.json").read_text())
    assert (facts["size"], facts["untrained"]) == ("demo", True)
    assert "Meta" not in result.output


def test_own_weights_of_its_size_have_an_unknown_licence(run, tmp_path):
    own = tmp_path / "own.safetensors"
    own.write_bytes((DEMO_NETWORKS / "depth.safetensors").read_bytes())
    run("export", "depth", "--size", "demo", "--checkpoint", own, "--repository", tmp_path / "models")
    facts = json.loads((tmp_path / "models" / "depth_engine" / "manifest.json").read_text())
    assert (facts["size"], facts["untrained"], facts["licence"]) == ("demo", False, "unknown")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pose", "--keypoints", "308"), "has the labels 'coco', got 'goliath'"),
        (("depth", "--mirror", "."), "comes with this project; leave --mirror out"),
        (
            ("depth", "--accept-licence"),
            "comes with this project; leave --accept-licence out",
        ),
    ],
)
def test_what_it_has_not_is_refused(run, arguments, message):
    result = run("export", *arguments, "--size", "demo")
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_the_zoo_tells_of_it(run):
    assert "--size demo" in run("zoo").output
