"""`sapiens export --plan`."""

import pytest
from typer import Typer
from typer.testing import CliRunner

from sapiens_export.commands.export import export_command
from sapiens_export.exporter import export_engine
from sapiens_export.weights.sources import source_from_seed


@pytest.fixture
def plan(tmp_path):
    app = Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(export_command)

    def told(*arguments):
        options = ["--plan", "--repository", tmp_path / "models"]
        result = CliRunner().invoke(app, [*map(str, (*arguments, *options))], env={"COLUMNS": "400"})
        lines = [line.split("  ", 1) for line in result.stdout.splitlines()]
        return result, {about: fact.strip() for about, fact in lines}

    return told


def test_a_published_network_is_planned_without_network_or_memory(plan, tmp_path):
    result, facts = plan("depth", "--size", "1b", "--precision", "bfloat16", "--max-batch-size", "8")
    assert result.exit_code == 0, result.output
    assert facts["weights"] == (
        "facebook/sapiens-depth-1b, sapiens_1b_render_people_epoch_88.pth, about 4.6 GB, downloaded unless "
        "it is in the cache"
    )
    assert facts["network"] == "depth sapiens 1b: 1156.0 million parameters, 5.512 TMAC per image"
    assert facts["engine"] == "python in bfloat16, batches of 1 to 8, about 2.3 GB"
    assert facts["GPU memory"].startswith("about 17.0 GB on each GPU")
    assert facts["memory to export"].startswith("about 9.2 GB beside what torch takes")
    assert facts["licence"] == "CC-BY-NC-4.0"
    assert facts["new models"] == "dense_preprocess, depth, depth_engine, depth_postprocess, depth_raw"
    assert "in the way" not in facts
    assert not (tmp_path / "models").exists()


def test_what_is_replaced_is_told(plan, network_file, tiny_network, tmp_path):
    export_engine(source_from_seed(tiny_network, 0), tmp_path / "models")
    random = ("depth", "--random-weights", "--network", network_file)
    assert plan(*random)[1]["new models"] == "none"
    _, named = plan(*random, "--name", "b")
    assert named["new models"] == "depth_b, depth_b_engine, depth_b_postprocess, depth_b_raw"
    assert named["replaced models"] == "dense_preprocess"


def test_weights_at_hand_are_looked_at(plan, network_file, golden_folder):
    file = golden_folder / "net_depth.safetensors"
    _, facts = plan("depth", "--checkpoint", file, "--network", network_file)
    assert facts["weights"] == f"{file}, {file.stat().st_size / 1e3:.1f} kB"


def test_a_flip_test_takes_the_memory_of_twice_the_images(plan):
    pose = ("pose", "--size", "0.3b", "--keypoints", "17")
    _, once = plan(*pose, "--max-batch-size", "8")
    _, twice = plan(*pose, "--max-batch-size", "4", "--flip-test")
    assert twice["GPU memory"] == once["GPU memory"]


def test_what_cannot_be_built_here_is_said(plan):
    result, facts = plan("depth", "--size", "0.3b", "--runtime", "onnx", "--precision", "bfloat16")
    assert result.exit_code == 1
    assert facts["in the way"].startswith("precision of an ONNX engine must be float32 or float16")


def test_a_network_that_does_not_fit_the_repository_is_refused(plan, network_file, tiny_network, tmp_path):
    export_engine(source_from_seed(tiny_network, 0), tmp_path / "models")
    result, _ = plan("normal", "--size", "0.3b")
    assert result.exit_code == 1
    assert "must agree on it" in result.output


def test_an_onnx_export_takes_more_memory(plan):
    assert plan("depth", "--size", "1b", "--runtime", "onnx")[1]["memory to export"].startswith(
        "about 32.4 GB"
    )


def test_a_mirror_is_looked_into(plan, tmp_path):
    result, _ = plan("depth", "--size", "0.3b", "--mirror", tmp_path)
    assert result.exit_code == 1
    assert "mirror must hold sapiens_0.3b_render_people_epoch_100.pth" in result.output
    copy = tmp_path / "sapiens_0.3b_render_people_epoch_100.pth"
    copy.write_bytes(bytes(1500))
    result, facts = plan("depth", "--size", "0.3b", "--mirror", tmp_path)
    assert result.exit_code == 0
    assert facts["weights"].endswith(f"epoch_100.pth, 1.5 kB, from {copy}")


def test_a_repository_that_cannot_be_made_is_in_the_way(plan, tmp_path):
    (tmp_path / "models").write_text("a file")
    result, facts = plan("depth", "--size", "0.3b")
    assert result.exit_code == 1
    assert facts["in the way"].startswith(f"repository must be a folder that can be written to, {tmp_path}")


def test_the_built_in_detector_is_planned_too(plan, tmp_path):
    result, facts = plan("detect", "--precision", "float16")
    assert result.exit_code == 0, result.output
    assert facts["weights"] == "part of this package"
    assert facts["network"] == "detect nanodet g: 3.8 million parameters, 0.002 TMAC per image"
    assert facts["engine"] == "python in float16, batches of 1 to 4, about 7.5 MB"
    assert facts["licence"] == "Apache-2.0"
    assert facts["new models"] == "detect, detect_engine, detect_postprocess, detect_preprocess"
    assert not (tmp_path / "models").exists()
