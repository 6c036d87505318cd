"""`sapiens verify`: the engines of a repository, compared again."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from sapiens_core.recipes.recipe import Task
from sapiens_export.commands.verify import verify_command
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.repository.manifest import installed_engine
from sapiens_export.weights.hashes import file_sha256
from sapiens_export.weights.sources import Source, built_in_detector, source_from_seed
from sapiens_server.installation import Installation


@pytest.fixture(scope="module")
def exported(trained, tiny_weights, tmp_path_factory):
    """Engines of several tasks, runtimes and precisions in one repository."""
    repository = tmp_path_factory.mktemp("verify") / "models"
    for network, options in (
        (trained(Task.DEPTH), EngineOptions(precision="bfloat16")),
        (trained(Task.DEPTH), EngineOptions(runtime="onnx", precision="float16", name="onnx")),
        (trained(Task.POSE), EngineOptions(runtime="torchscript", flip_test=True)),
    ):
        export_engine(Source(network, network.config, "ab" * 32), repository, options)
    export_engine(built_in_detector(), repository, EngineOptions(precision="float16"))
    return repository


@pytest.fixture
def repository(exported, tmp_path, monkeypatch):
    """A copy of these engines, beside a server as in NVIDIA's container."""
    container = Installation(tmp_path / "bin" / "tritonserver", wheel=None)
    monkeypatch.setattr("sapiens_server.engines.find_tritonserver", lambda: container)
    return shutil.copytree(exported, tmp_path / "models")


def verify(*arguments):
    app = Typer(pretty_exceptions_enable=False)
    app.command()(verify_command)
    return CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"], env={"COLUMNS": "200"})


def outcomes(result):
    return {outcome["model"]: outcome for outcome in json.loads(result.stdout)}


def export_of_another_seed(repository):
    network = installed_engine(repository / "depth_engine").config
    export_engine(source_from_seed(network, 7), repository.parent / "other")
    return repository.parent / "other" / "depth_engine" / "1" / "model.pt"


def test_engines_pass_without_their_checkpoints(repository):
    result = verify(repository, "--json")
    assert result.exit_code == 0, result.output
    seen = outcomes(result)
    assert list(seen) == ["depth_engine", "depth_onnx_engine", "detect_engine", "pose_engine"]
    assert [outcome["precision"] for outcome in seen.values()] == [
        "bfloat16",
        "float16",
        "float16",
        "float32",
    ]
    limits = {m["name"]: m["limit"] for m in seen["depth_engine"]["report"]["measures"]}
    assert limits == {"max_error": None, "p999_error": None, "mean_error": 0.005, "lost_levels": 0.25}


def test_people_get_a_table(repository):
    result = verify(repository)
    assert result.exit_code == 0
    assert "mean error" in result.stdout
    assert result.stdout.count("passed") == 4


def test_an_engine_that_is_another_ones_fails(repository):
    shutil.copyfile(export_of_another_seed(repository), repository / "depth_engine" / "1" / "model.pt")
    result = verify(repository, "--json")
    assert result.exit_code == 1
    assert (
        "must be the file that was exported, got another one" in outcomes(result)["depth_engine"]["problem"]
    )
    assert outcomes(result)["pose_engine"]["is_passed"]


@pytest.mark.parametrize(
    ("file", "model", "message"),
    [
        ("depth_engine/1/model.pt", "depth_engine", "must be the file that was exported"),
        ("depth_onnx_engine/1/model.onnx", "depth_onnx_engine", "must be the file that was exported"),
        ("pose_engine/parity.npz", "pose_engine", "export the engine again"),
    ],
)
@pytest.mark.parametrize("content", [None, b"damaged"], ids=["missing", "damaged"])
def test_what_is_missing_or_damaged_fails_alone(file, model, message, content, repository):
    (repository / file).unlink()
    if content is not None:
        (repository / file).write_bytes(content)
    result = verify(repository, "--json")
    assert result.exit_code == 1
    seen = outcomes(result)
    assert message in seen[model]["problem"]
    assert [name for name, outcome in seen.items() if not outcome["is_passed"]] == [model]


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"task": "depth"}', b"\xff", b"[" * 100_000], ids=repr)
def test_a_manifest_of_another_release_fails_alone(content, repository):
    (repository / "pose_engine" / "manifest.json").write_bytes(content)
    result = verify(repository, "--json")
    assert result.exit_code == 1
    seen = outcomes(result)
    assert "must be of this release of `sapiens export`" in seen["pose_engine"]["problem"]
    assert seen["depth_engine"]["is_passed"]


def test_weights_beside_an_onnx_file_are_checked_too(repository):
    manifest = repository / "depth_onnx_engine" / "manifest.json"
    facts = json.loads(manifest.read_text())
    data = repository / "depth_onnx_engine" / "1" / "model.onnx.data"
    data.write_bytes(b"weights")
    facts["engine_sha256"]["model.onnx.data"] = "0" * 64
    manifest.write_text(json.dumps(facts))
    assert "model.onnx.data must be" in outcomes(verify(repository, "--json"))["depth_onnx_engine"]["problem"]


def test_an_engine_that_computes_something_else_fails_by_its_measures(repository):
    """Its files are those that the manifest tells."""
    other = export_of_another_seed(repository)
    shutil.copyfile(other, repository / "depth_engine" / "1" / "model.pt")
    manifest = repository / "depth_engine" / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "engine_sha256": {"model.pt": file_sha256(other)}}))
    outcome = outcomes(verify(repository, "--json"))["depth_engine"]
    assert (outcome["problem"], outcome["report"]["is_passed"]) == ("", False)


def test_what_no_server_could_load_is_told(repository):
    shutil.rmtree(repository / "depth_engine")
    (repository / "pose_engine" / "manifest.json").unlink()
    result = verify(repository, "--json")
    assert result.exit_code == 1
    seen = outcomes(result)
    assert "it needs depth_engine" in seen["depth"]["problem"]
    assert "manifest.json must be of this release" in seen["pose_engine"]["problem"]


def test_a_folder_without_engines_is_named(tmp_path):
    result = verify(tmp_path)
    assert result.exit_code == 1
    assert "must have engines that `sapiens export` wrote from networks, got none" in result.output


@pytest.mark.parametrize("name", ["lost+found", ".models-export-abcdefgh", ".git/1"])
def test_folders_that_are_no_models_are_named(name, repository):
    (repository / name).mkdir(parents=True)
    result = verify(repository)
    assert result.exit_code == 0, result.output
    kind = f"{name.partition('/')[0]}, without a config.pbtxt"
    assert f"note: no models in {repository}: {kind}; `sapiens serve` leaves" in result.stderr


def test_folders_that_may_not_be_read_are_named_as_such(repository, monkeypatch):
    scandir = os.scandir

    def refusing(folder):
        if Path(folder).name in ("lost+found", "pose_engine"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    (repository / "lost+found").mkdir()
    monkeypatch.setattr(os, "scandir", refusing)
    result = verify(repository, "--json")
    assert "lost+found, pose_engine, that this user may not read" in result.stderr
    assert result.exit_code == 1
    assert "it needs pose_engine, which this user may not read" in outcomes(result)["pose"]["problem"]


def test_engines_for_another_server_than_the_bundled_one_pass_with_a_note(exported):
    result = verify(exported, "--json")
    assert result.exit_code == 0, result.output
    assert all(seen["is_passed"] for seen in outcomes(result).values())
    assert (
        "note: depth_onnx_engine, pose_engine cannot be served here, as the only tritonserver"
        in result.stderr
    )


def test_engines_that_fail_for_another_server_fail(exported, tmp_path):
    repository = shutil.copytree(exported, tmp_path / "models")
    (repository / "pose_engine" / "parity.npz").write_bytes(b"damaged")
    result = verify(repository, "--json")
    assert result.exit_code == 1
    assert [name for name, seen in outcomes(result).items() if not seen["is_passed"]] == ["pose_engine"]


def test_engines_that_the_server_on_the_path_cannot_run_are_refused(repository, tmp_path, monkeypatch):
    (tmp_path / "backends").mkdir()
    monkeypatch.setattr("sapiens_server.engines._DEFAULT_DIRECTORY", tmp_path / "backends")
    result = verify(repository, "--json")
    assert result.exit_code == 1
    refused = {name: seen for name, seen in outcomes(result).items() if not seen["is_passed"]}
    assert list(refused) == ["depth_onnx_engine", "pose_engine"]
    for name, backend in (("depth_onnx_engine", "onnxruntime"), ("pose_engine", "pytorch")):
        assert f"{name} is an engine for Triton's {backend} backend" in refused[name]["problem"]
        assert refused[name]["report"]["is_passed"]


def test_models_without_their_code_fail(repository):
    for model in ("dense_preprocess", "depth_engine"):
        (repository / model / "1" / "model.py").write_text(
            "from sapiens_core.no_such import TritonPythonModel\n"
        )
    result = verify(repository, "--json")
    assert result.exit_code == 1
    failed = {name: seen["problem"] for name, seen in outcomes(result).items() if not seen["is_passed"]}
    assert sorted(failed) == ["dense_preprocess", "depth_engine"]
    assert {*failed.values()} == {
        "it needs sapiens_core.no_such, which this release does not have; export it again into a new folder"
    }


def test_a_folder_that_only_looks_like_a_model_fails(repository):
    (repository / "old" / "1").mkdir(parents=True)
    result = verify(repository, "--json")
    assert result.exit_code == 1
    assert "it has no config.pbtxt" in outcomes(result)["old"]["problem"]
