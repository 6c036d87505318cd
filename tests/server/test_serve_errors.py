"""What `serve` says when it cannot start a server, each from the real one."""

from __future__ import annotations

import importlib.util
import re
import socket
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from sapiens_server import (
    AddressError,
    PortInUseError,
    RepositoryError,
    ServerNotFoundError,
    ServerOptions,
    ServerStartError,
    serve,
)

INITIALIZE = "class TritonPythonModel:\n    def initialize(self, args):\n"
SOUND = f"{INITIALIZE}        pass\n    def execute(self, requests):\n        return []\n"
RAISES = f"{INITIALIZE}        raise RuntimeError('no weights\\nhere')\n"
BUSY = f"""{INITIALIZE}        import time
        while time.process_time() < 4:
            pass
    def execute(self, requests):
        return []
"""
SLOW = f"{INITIALIZE}        import time\n        time.sleep(60)\n"


def with_model(repository: Path, name: str, code: str | None = SOUND) -> Path:
    version = repository / name / "1"
    version.mkdir(parents=True)
    config = (
        'input { name: "x" data_type: TYPE_FP32 dims: -1 } output { name: "y" data_type: TYPE_FP32 dims: -1 }'
    )
    (version.parent / "config.pbtxt").write_text(
        f'name: "{name}" backend: "python" instance_group {{ kind: KIND_CPU }} {config}'
    )
    if code is not None:
        (version / "model.py").write_text(code)
    return repository


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return with_model(tmp_path, "sound")


@pytest.mark.parametrize("service", ["grpc", "http", "metrics"])
def test_taken_port_is_named_with_the_option_that_changes_it(repository: Path, service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            PortInUseError, match=rf"{service}_port .* 127\.0\.0\.1:{port} .* --{service}-port"
        ):
            serve(repository, **{"grpc_port": 0, f"{service}_port": port})


def test_one_port_for_two_services_is_refused(repository: Path) -> None:
    with pytest.raises(PortInUseError, match="metrics_port must be free"):
        serve(repository, grpc_port=0, http_port=18990, metrics_port=18990)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (RAISES, r"'broken' version 1: RuntimeError: no weights here \(at .*/model\.py\(3\): initialize\);"),
        ("def f(:", r"'broken' version 1: SyntaxError: invalid syntax"),
        (
            "import no_such_module",
            r"'broken' version 1: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("import os; os._exit(3)", r"'broken' version 1: Stub process 'broken_0_0' is not healthy"),
        (None, r"file not found in '.*/broken/1/model\.py'"),
    ],
    ids=["initialize raises", "syntax error", "missing module", "process ends", "missing file"],
)
def test_model_that_does_not_load_is_named_with_the_reason(
    repository: Path, code: str | None, reason: str
) -> None:
    with_model(repository, "broken", code)
    with pytest.raises(ServerStartError, match=reason) as raised:
        serve(repository, grpc_port=0)
    assert "\n" not in str(raised.value)


def test_broken_config_is_named_with_the_reason(repository: Path) -> None:
    (with_model(repository, "broken") / "broken" / "config.pbtxt").write_text("nam: 3")
    with pytest.raises(ServerStartError, match=r'no field named "nam".*broken/config\.pbtxt'):
        serve(repository, grpc_port=0)


def test_only_the_cause_of_several_failures_is_named(repository: Path) -> None:
    with_model(repository, "broken", "def f(:")
    ensemble = with_model(repository, "whole", None) / "whole" / "config.pbtxt"
    maps = 'input_map { key: "x" value: "x" } output_map { key: "y" value: "y" }'
    step = f'step {{ model_name: "broken" model_version: -1 {maps} }}'
    config = ensemble.read_text().replace(
        'backend: "python" instance_group { kind: KIND_CPU }', 'platform: "ensemble"'
    )
    ensemble.write_text(f"{config} ensemble_scheduling {{ {step} }}")
    with pytest.raises(ServerStartError, match="'broken'") as raised:
        serve(repository, grpc_port=0)
    assert "whole" not in str(raised.value)


def test_slow_start_ends_with_the_last_lines_of_the_log(tmp_path: Path) -> None:
    words = r"(?s)no progress for 1\.5 s.*--startup-timeout.*loading: slow:1"
    with pytest.raises(ServerStartError, match=words):
        serve(with_model(tmp_path, "slow", SLOW), grpc_port=0, options=ServerOptions(startup_timeout_s=1.5))


def test_a_start_that_works_may_take_longer_than_it_may_stand_still(tmp_path: Path) -> None:
    options = ServerOptions(startup_timeout_s=2)
    with serve(with_model(tmp_path, "busy", BUSY), grpc_port=0, options=options) as server:
        assert server.models == ("busy",)


def test_arguments_of_the_caller_count_last(tmp_path: Path) -> None:
    options = ServerOptions(arguments=(f"--backend-directory={tmp_path / 'nowhere'}",))
    with pytest.raises(ServerStartError, match="unable to find backend library for backend 'python'"):
        serve(with_model(tmp_path / "models", "sound"), grpc_port=0, options=options)


@pytest.mark.parametrize("name", ["missing", "."], ids=["missing folder", "folder without models"])
def test_repository_without_models_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(RepositoryError, match=rf"{re.escape(str(tmp_path / name))} .*sapiens export"):
        serve(tmp_path / name)


def test_bundled_server_refuses_to_leave_loopback(repository: Path) -> None:
    with pytest.raises(
        AddressError, match=r"loopback, got host '0\.0\.0\.0': one request can crash it.*--expose-bundled"
    ):
        serve(repository, host="0.0.0.0", grpc_port=0)


def test_address_of_another_machine_is_refused(repository: Path) -> None:
    with pytest.raises(AddressError, match=r"address of this machine, got 192\.0\.2\.1:0 "):
        serve(repository, host="192.0.2.1", grpc_port=0, options=ServerOptions(expose_bundled=True))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("importlib.util.find_spec", None, r"found neither; pip install 'sapiens-triton\[server\]'"),
        ("importlib.metadata.version", "2.1.0", r"numpy below 2 .*, this is 2\.1\.0; pip install 'numpy<2'"),
        ("platform.libc_ver", ("glibc", "2.31"), r"needs glibc 2\.35 or newer, this is glibc 2\.31"),
    ],
)
def test_what_the_bundled_server_lacks_is_said(
    repository: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object, reason: str
) -> None:
    monkeypatch.setattr(name, lambda *_: value)
    with pytest.raises(ServerNotFoundError, match=reason):
        serve(repository, grpc_port=0)


def test_python_without_a_stub_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = ModuleSpec("pytriton", None, is_package=True)
    wheel.submodule_search_locations = [str(repository)]
    (repository / "tritonserver" / "python_backend_stubs" / "3.8").mkdir(parents=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: wheel)
    with pytest.raises(ServerNotFoundError, match=r"needs one of Python 3\.8, this is 3\."):
        serve(repository, grpc_port=0)


def test_server_on_path_comes_first_and_gets_nothing_of_the_wheel(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tritonserver"
    program.write_text('#!/bin/sh\necho "$LD_LIBRARY_PATH $@"\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(
        ServerStartError, match=r"(?s)exit status 3.*--disable-auto-complete-config"
    ) as raised:
        serve(repository, host="0.0.0.0", grpc_port=0)
    assert "pytriton" not in str(raised.value)
    assert "--backend-directory" not in str(raised.value)


def test_folder_for_temporary_files_that_a_shell_would_split_is_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(ServerNotFoundError, match=r"without spaces .* got '.*/with space'; set TMPDIR"):
        serve(repository, grpc_port=0)
    assert list(folder.iterdir()) == []


def test_runtime_that_the_server_lacks_is_named_with_the_way_out(repository: Path) -> None:
    config = repository / "sound" / "config.pbtxt"
    config.write_text(config.read_text().replace('"python"', '"pytorch"'))
    with pytest.raises(
        ServerStartError, match=r"backend 'pytorch'.*; .* Triton container, or export with --runtime python$"
    ):
        serve(repository, grpc_port=0)


def test_a_server_without_security_fixes_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tritonserver").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "bin" / "tritonserver").chmod(0o755)
    (tmp_path / "TRITON_VERSION").write_text("2.72.0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    (tmp_path / "models" / "m" / "1").mkdir(parents=True)
    (tmp_path / "models" / "m" / "config.pbtxt").write_text('backend: "python"')
    lines: list[str] = []
    with pytest.raises(ServerStartError):
        serve(tmp_path / "models", grpc_port=0, on_log=lines.append)
    (warning,) = [line for line in lines if line.startswith("warning: tritonserver 2.72 at ")]
    assert "up to 26.09; use a newer release" in warning
