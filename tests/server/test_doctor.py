"""What `sapiens doctor` finds, on this machine and on machines that lack something."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from sapiens_core.processors import num_processors
from sapiens_server import leftovers
from sapiens_server.doctor.command import doctor_command
from sapiens_server.doctor.machine import max_open_files, memory_bytes, memory_limit

Doctor = Callable[..., tuple[int, dict[str, list[dict[str, str]]]]]


@pytest.fixture
def output(depth_repository: Path) -> Callable[..., tuple[int, str]]:
    """A function (options) -> exit status and what `sapiens doctor` prints, of a sound repository."""
    app = typer.Typer()
    app.command()(doctor_command)

    def run(*options: str, repository: Path | str = depth_repository) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["--repository", str(repository), "--grpc-port", "0", *options])
        return result.exit_code, result.output

    return run


@pytest.fixture
def doctor(output: Callable[..., tuple[int, str]]) -> Doctor:
    """A function (options) -> exit status and findings by topic."""

    def run(*options: str, **changes: Path | str) -> tuple[int, dict[str, list[dict[str, str]]]]:
        status, text = output("--json", *options, **changes)
        told = json.loads(text)
        assert (told["format"], told["can_serve"]) == (1, status == 0)
        topics: dict[str, list[dict[str, str]]] = {}
        for finding in told["findings"]:
            topics.setdefault(finding["topic"], []).append(finding)
        return status, topics

    return run


def test_machine_that_serves_has_nothing_wrong(doctor: Doctor, nvidia_smi) -> None:
    nvidia_smi("NVIDIA H100 80GB HBM3, 9.0, 570.10, 81559 MiB")
    status, topics = doctor("--health-port", "0")
    assert status == 0
    assert [
        each["level"] for findings in topics.values() for each in findings if each["level"] == "error"
    ] == []
    assert "tritonserver 2.51" in topics["server"][0]["seen"]
    assert topics["engines"][0]["seen"] == "depth_engine fit this server"
    assert topics["GPU 0"][0]["seen"].startswith("NVIDIA H100 80GB HBM3, compute capability 9.0")
    assert {"sapiens", "system", "extra server", "memory", "shared memory", "health port"} <= set(topics)


def test_people_get_a_table(output: Callable[..., tuple[int, str]]) -> None:
    status, text = output()
    assert status == 0
    assert re.search(r"ok +│ repository +│ /.*: dense_preprocess, depth", text)


def test_taken_port_stops_serving(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, topics = doctor("--metrics-port", str(taken.getsockname()[1]))
    assert status == 1
    assert topics["metrics port"][0]["advice"] == "choose another with --metrics-port (0: any free one)"


def test_missing_repository_stops_serving(doctor: Doctor, tmp_path: Path) -> None:
    status, topics = doctor(repository=tmp_path / "nowhere")
    assert status == 1
    assert topics["repository"][0]["advice"] == "write one with `sapiens export`"


def test_object_storage_is_left_to_the_server(doctor: Doctor) -> None:
    status, topics = doctor(repository="s3://bucket/models")
    assert (status, topics["repository"][0]["level"]) == (0, "note")


def with_model(repository: Path, config: str = "", code: str = "", manifest: str = "") -> Path:
    version = repository / "depth_engine" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(f'name: "depth_engine"\n{config}')
    (version / "model.py").write_text(code)
    if manifest:
        (version.parent / "manifest.json").write_text(manifest)
    return repository


@pytest.mark.parametrize(
    ("model", "topic", "words"),
    [
        ({"manifest": '{"runtime": "onnx"}'}, "engines", "an engine for Triton's onnxruntime backend"),
        (
            {"config": 'parameters {\n  key: "contract"\n  value {\n    string_value: "9999"\n  }\n}'},
            "models",
            "depth_engine must follow contract 1, the one of this release",
        ),
        (
            {"code": "from sapiens_core.no_such import x\nfrom sapiens_core.labels import y\n"},
            "models",
            "depth_engine needs sapiens_core.no_such, which this release does not have",
        ),
        (
            {"code": "from sapiens_core.no.such import x\n"},
            "models",
            "depth_engine needs sapiens_core.no.such, which",
        ),
    ],
)
def test_model_of_others_stops_serving(
    doctor: Doctor, tmp_path: Path, model: dict[str, str], topic: str, words: str
) -> None:
    status, topics = doctor(repository=with_model(tmp_path, **model))
    assert status == 1
    assert words in topics[topic][0]["seen"]
    assert "export" in topics[topic][0]["advice"]


def test_bundled_server_must_not_leave_loopback(doctor: Doctor) -> None:
    status, topics = doctor("--host", "0.0.0.0")
    assert status == 1
    assert topics["server"][1]["advice"].endswith("insist with --expose-bundled")


def test_missing_server_and_extras_are_named(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    status, topics = doctor(repository="s3://bucket/models")
    assert status == 1
    assert topics["server"][0]["advice"].startswith("pip install 'sapiens-triton[server]'")
    assert topics["extra heif"][0]["seen"] == "not installed: pillow_heif"


def test_folder_for_temporary_files_that_is_unfit_is_named(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    status, topics = doctor()
    assert (status, topics["temporary files"][0]["advice"]) == (1, "set TMPDIR to another")


@pytest.mark.parametrize(("release", "level"), [("2.51.0", "warning"), ("2.75.0", "ok")])
def test_release_without_security_fixes_is_warned_of(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, level: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tritonserver").touch(mode=0o755)
    (tmp_path / "TRITON_VERSION").write_text(release)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    status, topics = doctor("--host", "0.0.0.0")
    assert (status, topics["server"][0]["level"]) == (0, level)


def test_driver_that_fails_stops_serving(doctor: Doctor, nvidia_smi) -> None:
    nvidia_smi("Driver/library version mismatch", 18)
    status, topics = doctor()
    assert (status, topics["GPU"][0]["level"]) == (1, "error")


def test_what_dead_servers_left_is_counted(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_SHARED_MEMORY", tmp_path)
    with leftovers.claimed_name():
        assert leftovers.num_dead_servers() == 0
    (tmp_path / "sapiens_server_x_lock").touch()
    _, topics = doctor()
    assert topics["shared memory"][1]["seen"] == "servers that were killed and have left files: 1"


@pytest.mark.parametrize(
    ("free_mb", "level", "advice"),
    [
        (100_000, "ok", ""),
        (300, "warning", r"give the container --shm-size=\d+m, or set --max-image-pixels to at most \d+"),
    ],
)
def test_shared_memory_is_compared_with_what_the_models_take(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, free_mb: int, level: str, advice: str
) -> None:
    monkeypatch.delenv("SAPIENS_MAX_IMAGE_PIXELS", raising=False)
    space = SimpleNamespace(f_bavail=free_mb, f_frsize=2**20)
    monkeypatch.setattr("sapiens_server.shared_memory.os", SimpleNamespace(statvfs=lambda _: space))
    status, topics = doctor()
    finding = topics["shared memory"][-1]  # behind what is there, and what others have left
    assert (status, finding["level"]) == (0, level)
    assert re.fullmatch(advice, finding["advice"])


def test_limit_of_images_that_is_none_stops_serving(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAPIENS_MAX_IMAGE_PIXELS", "many")
    status, topics = doctor()
    assert (status, topics["image limit"][0]["level"]) == (1, "error")


def test_limits_of_containers_are_read(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None
    usable = num_processors(tmp_path)
    second, first = tmp_path / "second", tmp_path / "first"
    second.mkdir()
    (second / "cpu.max").write_text("50000 100000\n")
    (second / "memory.max").write_text("1073741824\n")
    assert (num_processors(second), memory_limit(second)) == (0.5, 2**30)
    (second / "cpu.max").write_text("max 100000\n")
    (second / "memory.max").write_text("max\n")
    assert (num_processors(second), memory_limit(second)) == (usable, None)
    for folder in ("cpu", "memory"):
        (first / folder).mkdir(parents=True)
    (first / "cpu" / "cpu.cfs_quota_us").write_text("25000\n")
    (first / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (first / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert (num_processors(first), memory_limit(first)) == (0.25, None)


def test_memory_and_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal:  1024 kB\nMemAvailable:     512 kB\n")
    (tmp_path / "self" / "limits").write_text(
        "Limit  Soft Limit\nMax open files            1024      4096    files\n"
    )
    assert (memory_bytes("MemAvailable", tmp_path), memory_bytes("Nothing", tmp_path)) == (2**19, 0)
    assert max_open_files(tmp_path) == 1024
    assert max_open_files(tmp_path / "nowhere") is None
