"""Options of `sapiens export` that belong to one task."""

import json
from dataclasses import asdict

import pytest
from typer import Typer
from typer.testing import CliRunner

from sapiens_core.contract.model_info import ModelInfo
from sapiens_core.recipes.recipe import Task
from sapiens_export import exporter
from sapiens_export.commands.export import export_command
from sapiens_export.weights import sources as source_module


@pytest.fixture
def run(tmp_path):
    app = Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(export_command)

    def invoke(*arguments):
        folder = () if "--repository" in arguments else ("--repository", tmp_path / "models")
        words = [str(argument) for argument in (*arguments, *folder)]
        return CliRunner().invoke(app, words)

    return invoke


@pytest.fixture
def sources(monkeypatch):
    """What would be loaded, instead of loading it: (task, architecture, labels) of each call."""
    calls = []
    info = ModelInfo("x", "x", "x", "", "float32", "python", "full", False, "x", False, "")

    def from_seed(config, _seed):
        calls.append((config.task, config, None))

    def from_checkpoint(task, _checkpoint, config, *, labels):
        calls.append((task, config, labels))

    monkeypatch.setattr(source_module, "source_from_seed", from_seed)
    monkeypatch.setattr(source_module, "source_from_checkpoint", from_checkpoint)
    monkeypatch.setattr(exporter, "export_engine", lambda *_, **__: exporter.Export((), info, parity=None))
    return calls


@pytest.mark.parametrize(
    ("option", "num_outputs", "labels"),
    [
        (("pose", "--keypoints", "17"), 17, "coco"),
        (("pose", "--keypoints", "133"), 133, "coco_wholebody"),
        (("pose",), 308, "goliath"),
        (("seg", "--classes", "lip"), 20, "lip"),
        (("seg", "--classes", "seg_face"), 19, "seg_face"),
        (("seg",), 28, "goliath"),
    ],
)
def test_a_released_size_comes_with_every_set_of_outputs(option, num_outputs, labels, run, sources):
    result = run(*option, "--random-weights", "--size", "0.3b")
    assert result.exit_code == 0, result.output
    ((_, config, _),) = sources
    assert (config.num_outputs, config.labels, config.size) == (num_outputs, labels, "0.3b")


@pytest.mark.parametrize(
    ("option", "labels"),
    [(("seg", "--classes", "lip"), "lip"), (("pose", "--keypoints", "17"), "coco"), (("seg",), None)],
)
def test_what_the_outputs_of_a_checkpoint_stand_for_can_be_told(option, labels, run, sources):
    assert run(*option, "--checkpoint", "x.pth").exit_code == 0
    assert sources == [(Task(option[0]), None, labels)]


@pytest.mark.parametrize("options", [(), ("--flip-test",)], ids=["plain", "flip test"])
def test_the_flip_test_is_an_option_of_pose(options, run, golden_networks, tmp_path):
    (tmp_path / "NET.json").write_text(json.dumps(asdict(golden_networks["pose17"])))
    result = run("pose", "--random-weights", "--network", tmp_path / "NET.json", *options)
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "models" / "pose_engine" / "manifest.json").read_text())
    assert manifest["flip_test"] is bool(options)


@pytest.mark.parametrize("options", [(), ("--detector", "nanodet")], ids=["default", "by name"])
def test_the_built_in_detector_is_the_default(options, run, tmp_path):
    result = run("detect", *options)
    assert result.exit_code == 0, result.output
    assert "detect_engine" in result.output
    assert "licence of the weights: Apache-2.0\n" in result.output
    assert "parity: max error" in result.output
    assert (tmp_path / "models" / "detect_engine" / "1" / "model.pt").is_file()


@pytest.mark.parametrize(
    ("runtime", "precision", "file"),
    [("torchscript", "bfloat16", "model.pt"), ("onnx", "float16", "model.onnx")],
)
def test_the_built_in_detector_is_exported_like_other_networks(runtime, precision, file, run, tmp_path):
    result = run("detect", "--runtime", runtime, "--precision", precision, "--name", "small")
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "models" / "detect_small_engine" / "manifest.json").read_text())
    assert (manifest["family"], manifest["size"], manifest["precision"]) == ("nanodet", "g", precision)
    assert list(manifest["engine_sha256"]) == [file]
    assert manifest["licence"] == "Apache-2.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("detect", "--checkpoint", "x.pth"), "detect takes no --checkpoint"),
        (("detect", "--random-weights", "--seed", "1"), "detect takes no --random-weights, --seed"),
        (("depth", "--random-weights", "--flip-test"), "depth takes no --flip-test"),
        (("pose", "--random-weights", "--finish", "gpu"), "pose takes no --finish"),
        (("seg", "--random-weights", "--keypoints", "17"), "seg takes no --keypoints"),
        (("pose", "--random-weights", "--detector", "nanodet"), "pose takes no --detector"),
        (("pose", "--random-weights", "--size", "1b", "--keypoints", "18"), "one of 308, 133, 17, got '18'"),
        (
            ("seg", "--checkpoint", "x", "--classes", "ade"),
            "goliath, cihp, lip, seg_face, sapiens2, got 'ade'",
        ),
        (("pose", "--random-weights", "--network", "n", "--keypoints", "17"), "--network and --keypoints"),
        (("detect", "--mirror", "x"), "detect takes no --mirror"),
        (("depth", "--checkpoint", "x", "--mirror", "y"), "--mirror is for published weights"),
        (("pose", "--keypoints", "17"), "--random-weights, and --size alone for published weights"),
        (
            ("seg", "--size", "2b"),
            "1b goliath, 0.4b sapiens2, 0.8b sapiens2, 1b sapiens2, 5b sapiens2, got 2b goliath",
        ),
        (("pose", "--size", "9b", "--keypoints", "17"), "2b coco, got 9b coco"),
        (
            ("seg", "--checkpoint", "x", "--family", "sapiens2"),
            "--family is for a released size; give --size",
        ),
        (
            ("depth", "--size", "1b", "--family", "sapiens2"),
            "--family must be one with depth of sapiens, sapiens2",
        ),
        (("pose", "--size", "2b"), "got 2b goliath; give --keypoints 133, or --keypoints 17, or a weight"),
        (("depth", "--random-weights"), "--random-weights needs an architecture; give --size or --network"),
        (("depth", "--random-weights", "--network", "absent.json"), "absent.json"),
        (("depth", "--size", "1b", "--runtime", "onnx", "--precision", "bfloat16"), "float32 or float16"),
        (("detect", "--licence", "mine"), "built-in detector is under Apache-2.0; leave --licence out"),
        (("detect", "--detector", "x/y", "--precision", "float16"), "--precision is for the built-in"),
        (("detect", "--detector", "x/y", "--plan"), "--plan is for the built-in detector; leave it or"),
        (("detect", "--tensorrt-accelerator"), "--tensorrt-accelerator is for --runtime onnx"),
        (("detect", "--name", "a_raw"), "name must be at most 40 small letters"),
        (("detect", "--gpus", "first"), "--gpus must be numbers such as 1,4, or all, got 'first'"),
        (
            ("detect", "--warmup", "8"),
            "warmup must be different batch sizes from 1 to max_batch_size, 4, got [8]",
        ),
        (("detect", "--serving", "absent.yaml"), "absent.yaml"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(arguments, message, run, tmp_path):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "models").exists()


def test_the_operator_s_choices_are_options(run, tmp_path):
    result = run("detect", "--max-batch-size", 2, "--queue-delay-us", 5, "--max-queue-size", 6)
    assert result.exit_code == 0, result.output
    config = (tmp_path / "models" / "detect_engine" / "config.pbtxt").read_text()
    assert "max_batch_size: 2\n" in config
    assert "max_queue_delay_microseconds: 5\n" in config
    assert "max_queue_size: 6\n" in config


def test_the_operator_s_choices_may_be_in_a_file(run, tmp_path):
    (tmp_path / "serving.yaml").write_text("max_batch_size: 3\nmax_queue_size: 7\n")
    result = run("detect", "--serving", tmp_path / "serving.yaml", "--max-queue-size", 9, "--name", "b")
    assert result.exit_code == 0, result.output
    config = (tmp_path / "models" / "detect_b_engine" / "config.pbtxt").read_text()
    assert "max_batch_size: 3\n" in config
    assert "max_queue_size: 9\n" in config


@pytest.mark.parametrize("runtime", ["onnx", "tensorrt"])
def test_a_runtime_that_a_librarys_detector_has_not_is_refused_before_it_is_looked_for(
    runtime, run, tmp_path
):
    result = run("detect", "--detector", tmp_path, "--runtime", runtime)
    assert result.exit_code == 1
    assert "runtime of a detector must be one of" in result.output
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("url", ["s3://bucket/models", "gs://bucket/models", "as://account/container/models"])
def test_object_storage_is_no_folder_to_export_into(url, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("detect", "--repository", url)
    assert result.exit_code == 2
    words = " ".join(result.output.replace("│", " ").split())
    assert f"must be a folder, got {url}; export into a folder and copy it there" in words
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "option",
    [("--seed", -1), ("--seed", 2**63), ("--max-batch-size", 0), ("--cpu-instances", 0)],
)
def test_numbers_out_of_range_are_refused(option, run):
    assert run("pose", "--random-weights", "--size", "0.3b", *option).exit_code == 2


def test_a_detector_that_is_not_there_is_no_wrong_usage(run):
    result = run("detect", "--detector", "absent/folder/x")
    assert result.exit_code == 1
    assert "got absent/folder/x" in " ".join(result.output.split())


def test_consent_means_nothing_for_weights_at_hand(run):
    result = run("depth", "--random-weights", "--size", "0.3b", "--accept-licence")
    assert result.exit_code == 2
    assert "--accept-licence is for published weights" in " ".join(result.output.split())


@pytest.mark.parametrize("option", [("--max-batch-size", "3000000000"), ("--gpus", "99999999999")])
def test_numbers_that_no_config_can_hold_are_refused_first(option, run, network_file):
    result = run("depth", "--random-weights", "--network", network_file, *option)
    assert result.exit_code == 2
    assert "must be from" in result.output


def test_repositories_may_have_names_that_look_like_markup(network_file, tmp_path):
    app = Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(export_command)
    repository = tmp_path / "h[" / "x]"
    options = ["depth", "--random-weights", "--network", network_file, "--repository", repository]
    result = CliRunner().invoke(app, [str(option) for option in options])
    assert result.exit_code == 0, result.output


def test_people_are_posed_by_the_network_without_a_name(run):
    result = run("pose", "--random-weights", "--size", "0.3b", "--name", "b", "--people-instances", "8")
    assert result.exit_code == 2
    assert "without a --name" in " ".join(result.output.split())


def test_where_nobody_looks_at_a_terminal_every_step_is_a_line(run, network_file):
    result = run("depth", "--random-weights", "--network", network_file)
    assert "asking the float32 network about the fixed images\n" in result.output
    assert "building the python engine in float32\n" in result.output


@pytest.mark.parametrize("text", ["", " "])
def test_no_folder_is_not_the_working_directory(text, run, network_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("depth", "--random-weights", "--network", network_file, "--repository", text)
    assert result.exit_code == 2
    assert "must name a folder, got an empty text" in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == [network_file]
