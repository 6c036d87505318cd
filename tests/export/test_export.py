import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS
from sapiens_export.candidates import ParityError
from sapiens_export.commands.export import export_command
from sapiens_export.engines.torchscript import engine_from_torchscript
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.networks.config import read_network
from sapiens_export.parity import pipeline
from sapiens_export.weights.hashes import file_sha256
from sapiens_export.weights.licences import NOTICE_FILE
from sapiens_export.weights.sources import source_from_checkpoint, source_from_seed

ENGINE = Path("depth_engine", "1", "model.pt")


@pytest.fixture
def run():
    app = Typer(pretty_exceptions_enable=False)
    app.command()(export_command)

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def checkpoint(golden_folder):
    return golden_folder / "net_depth.safetensors"


def manifest(repository):
    return json.loads((repository / "depth_engine" / "manifest.json").read_text())


def test_a_checkpoint_becomes_a_repository(run, checkpoint, network_file, tmp_path):
    result = run(
        "depth", "--checkpoint", checkpoint, "--network", network_file, "--repository", tmp_path / "models"
    )
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert names == ["dense_preprocess", "depth", "depth_engine", "depth_postprocess", "depth_raw"]
    assert not list(tmp_path.glob(".models-*"))


def test_the_manifest_tells_where_the_engine_comes_from(run, checkpoint, network_file, tmp_path):
    run("depth", "--checkpoint", checkpoint, "--network", network_file, "--repository", tmp_path)
    facts = manifest(tmp_path)
    assert facts["checkpoint_sha256"] == file_sha256(checkpoint)
    assert facts["engine_sha256"] == {"model.pt": file_sha256(tmp_path / ENGINE)}
    assert facts["licence"] == "unknown"
    assert "seed" not in facts
    assert facts["untrained"] is False
    assert facts["parity"]["is_passed"] is True
    assert facts["network"]["input_hw"] == [64, 48]
    assert facts["torch"] == torch.__version__


def test_the_exported_engine_equals_the_reference_end_to_end(
    checkpoint, tiny_network, tmp_path, golden, encode
):
    export_engine(source_from_checkpoint(Task.DEPTH, checkpoint, tiny_network), tmp_path)
    vectors = golden("net_depth")
    engine = engine_from_torchscript(tmp_path / ENGINE)
    depth = pipeline.depth(encode(vectors["e2e_image_bgr"][:, :, ::-1]), engine, (64, 48))
    np.testing.assert_allclose(depth, vectors["full_pred"][0], rtol=0, atol=1e-4)


def test_lite_preprocessing_gives_the_output_of_the_lite_demo(
    checkpoint, tiny_network, tmp_path, golden, encode
):
    export_engine(
        source_from_checkpoint(Task.DEPTH, checkpoint, tiny_network),
        tmp_path,
        EngineOptions(preprocess="lite"),
    )
    vectors = golden("net_depth")
    mean = np.array(NORMALIZATIONS["lite"].mean, np.float32)[:, None, None]
    std = np.array(NORMALIZATIONS["lite"].std, np.float32)[:, None, None]
    pixels = np.rint(vectors["lite_input"] * std + mean).astype(np.uint8).transpose(1, 2, 0)[None]
    (output,) = engine_from_torchscript(tmp_path / ENGINE)(np.ascontiguousarray(pixels))
    np.testing.assert_allclose(output[0], vectors["lite_output"], rtol=0, atol=1e-4)
    assert manifest(tmp_path)["preprocess"] == "lite"


def test_an_untrained_network_is_marked_and_said_so(run, network_file, tmp_path):
    result = run("depth", "--random-weights", "--network", network_file, "--repository", tmp_path)
    assert "untrained" in result.output
    assert manifest(tmp_path)["untrained"] is True
    assert 'string_value: "true"' in (tmp_path / "depth" / "config.pbtxt").read_text()


def test_a_licence_with_terms_is_told_beside_the_engine(tiny_network, tmp_path):
    export_engine(source_from_seed(tiny_network, 0), tmp_path, EngineOptions(licence="CC-BY-NC-4.0"))
    assert "not for commercial use" in (tmp_path / "depth_engine" / NOTICE_FILE).read_text()


def test_exporting_twice_replaces_the_models_and_keeps_others(tiny_network, tmp_path):
    (tmp_path / "mine").mkdir()
    export_engine(source_from_seed(tiny_network, 0), tmp_path)
    first = file_sha256(tmp_path / ENGINE)
    export_engine(source_from_seed(tiny_network, 1), tmp_path)
    assert file_sha256(tmp_path / ENGINE) != first
    assert (tmp_path / "mine").is_dir()


def test_an_engine_that_differs_is_not_installed(tiny_network, tmp_path, monkeypatch):
    source = source_from_seed(tiny_network, 0)
    other = engine_of_another_seed(tiny_network, tmp_path)
    monkeypatch.setattr("sapiens_export.candidates.engine_from_file", lambda *_: other)
    with pytest.raises(ParityError, match=r"got max error .* \(0\.0001 allowed\).*nothing was installed"):
        export_engine(source, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def engine_of_another_seed(network, folder):
    export_engine(source_from_seed(network, 9), folder / "other")
    return engine_from_torchscript(folder / "other" / ENGINE)


def test_the_libtorch_runtime_needs_no_python_beside_the_engine(tiny_network, tmp_path):
    export_engine(source_from_seed(tiny_network, 0), tmp_path, EngineOptions(runtime="torchscript"))
    assert [path.name for path in (tmp_path / "depth_engine" / "1").iterdir()] == ["model.pt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "exactly one of --checkpoint FILE, --random-weights, and --size alone"),
        (("--random-weights", "--checkpoint", "x.pth"), "exactly one of"),
        (("--random-weights",), "give --size or --network"),
        (("--random-weights", "--size", "9b"), "got '9b'"),
        (("--random-weights", "--size", "1b", "--network", "n.json"), "at most one of --network and --size"),
        (("--checkpoint", "absent.pth"), "absent.pth is not"),
        (("--random-weights", "--network", "absent.json"), "absent.json must be a readable JSON file"),
    ],
    ids=["nothing", "both", "no architecture", "unknown size", "two sizes", "no file", "no description"],
)
def test_wrong_usage_is_told_in_a_sentence(arguments, message, run, tmp_path):
    result = run("depth", *arguments, "--repository", tmp_path / "models")
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"must be an object, got \[\]"),
        ('{"family": "sapiens"}', "embed_dim is missing"),
        ("{", "readable JSON file"),
        ("[" * 100_000, "readable JSON file"),
    ],
    ids=["list", "keys missing", "broken", "deep"],
)
def test_other_descriptions_of_a_network_are_refused(text, message, tmp_path):
    (tmp_path / "NET.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_network(tmp_path / "NET.json", Task.DEPTH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "pose9"}, "got 'pose9'"),
        ({"input_hw": [64]}, "input_hw.1 is missing"),
        ({"num_heads": "2"}, "num_heads must be a valid integer, got '2'"),
        ({"family": []}, r"family must be a valid string, got \[\]"),
        ({"task": {}}, "task must be a valid string, got {}"),
        ({"labels": 3}, "labels must be a valid string, got 3"),
        ({"num_outputs": 3}, "num_outputs of depth must be 1, got 3"),
        ({"patch_padding": 8}, "'patch_padding': 8"),
        ({"num_layers": 10**9}, "at most .*'num_layers': 1000000000"),
        ({"input_hw": [16384, 16]}, "up to 8192, got \\(16384, 16\\)"),
    ],
    ids=[
        "task",
        "input size",
        "number as text",
        "family type",
        "task type",
        "labels type",
        "outputs",
        "padding",
        "layers",
        "side",
    ],
)
def test_wrong_entries_of_a_description_are_refused(change, message, network_file):
    network_file.write_text(json.dumps({**json.loads(network_file.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        read_network(network_file, Task.DEPTH)
