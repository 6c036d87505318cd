"""`serve` and `sapiens serve` on the real server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
import tritonclient.grpc as triton
from real_servers import LONG_S, becomes_true, files_of, kill_all_but_one, prefix_of, processes_of, statuses

from sapiens_server import RunningServer, ServerDiedError, ServerOptions, ServerStartError, serve
from sapiens_server.leftovers import sweep

CONFIG = """
backend: "python" max_batch_size: 0 instance_group [ { kind: KIND_CPU } ]
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
IDENTITY = """
import pathlib
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        if x[0] < 0:
            pathlib.Path(__file__).with_name("busy").touch()
            time.sleep(-x[0])
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", x)])
"""
INITIALIZE = f"{IDENTITY}\n    def initialize(self, args):\n"
TALKATIVE = f"{INITIALIZE}        print('a word from the model', flush=True)\n"
SLOW = f"{INITIALIZE}        time.sleep(3600)\n"
Command = Callable[..., subprocess.Popen[str]]
COMMAND = (
    "import typer; from sapiens_server.cli import serve_command; "
    "app = typer.Typer(); app.command()(serve_command); app()"
)


def with_model(repository: Path, code: str = IDENTITY) -> Path:
    version = repository / "identity" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(f'name: "identity" {CONFIG}')
    (version / "model.py").write_text(code)
    return repository


def echoed(server: RunningServer, x: list[float]) -> list[float]:
    with triton.InferenceServerClient(server.grpc_url) as client:
        tensor = triton.InferInput("x", [len(x)], "FP32").set_data_from_numpy(np.array(x, np.float32))
        return client.infer("identity", [tensor]).as_numpy("y").tolist()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_model(tmp_path_factory.mktemp("it's a $HOME, with; spaces & ünïcode"))


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    """A server with all services on, which stays up while others come and go."""
    with serve(repository, host="localhost", grpc_port=0, http_port=0, metrics_port=0) as server:
        yield server


@pytest.fixture
def command(repository: Path) -> Iterator[Command]:
    """A function that runs `sapiens serve` in a process of its own."""
    started = []

    def run(*arguments: str, repository: Path = repository) -> subprocess.Popen[str]:
        options = ["--repository", str(repository), "--grpc-port", "0", *arguments]
        started.append(
            subprocess.Popen([sys.executable, "-c", COMMAND, *options], stdout=PIPE, stderr=PIPE, text=True)
        )
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def servers_of(launcher: subprocess.Popen[str]) -> list[int]:
    with suppress(FileNotFoundError):  # its check of the stub, which has ended
        return [pid for pid, status in statuses() if status.parent == launcher.pid and prefix_of(pid)]
    return []


def announced(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait until `sapiens serve` announces its server, and return that server's process id and address."""
    assert process.stdout is not None
    found = re.fullmatch(r"serving at (127\.0\.0\.1:\d+): identity\n", process.stdout.readline())
    assert found
    (pid,) = servers_of(process)
    return pid, found[1]


def child_server(process: subprocess.Popen[str]) -> int:
    return announced(process)[0]


@contextmanager
def busy(url: str, repository: Path) -> Iterator[None]:
    """Let the model work on a request for longer than its server waits for it."""
    sign = repository / "identity" / "1" / "busy"
    sign.unlink(missing_ok=True)
    with triton.InferenceServerClient(url) as client:
        tensor = triton.InferInput("x", [1], "FP32").set_data_from_numpy(np.array([-LONG_S], np.float32))
        client.async_infer("identity", [tensor], lambda result, error: None)
        assert becomes_true(sign.exists)
        yield


def test_server_answers_an_inference(server: RunningServer) -> None:
    assert echoed(server, [1.0, 2.5]) == [1.0, 2.5]


@pytest.mark.parametrize("path", [None, "", "/nowhere"])
def test_a_server_starts_whatever_programs_are_on_the_path(
    repository: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    if path is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", path)
    with serve(repository, grpc_port=0) as server:
        assert server.grpc_url


def test_server_tells_its_models_and_services(server: RunningServer) -> None:
    assert server.models == ("identity",)
    for url in (f"http://{server.http_url}/v2/health/ready", f"http://{server.metrics_url}/metrics"):
        with urllib.request.urlopen(url, timeout=LONG_S) as reply:
            assert reply.status == 200


def test_heap_settings_reach_the_server(server: RunningServer) -> None:
    environment = Path(f"/proc/{server.pid}/environ").read_bytes()
    assert b"MALLOC_ARENA_MAX=1\0" in environment
    assert b"GLIBC_TUNABLES=glibc.malloc.hugetlb=1\0" in environment


def test_no_other_user_can_read_what_a_server_has_in_shared_memory(server: RunningServer) -> None:
    files = files_of(prefix_of(server.pid))
    assert {file.stat().st_mode & 0o077 for file in files} == {0}


def test_only_grpc_is_on_by_default_and_servers_do_not_disturb_each_other(
    server: RunningServer, repository: Path
) -> None:
    with serve(repository, grpc_port=0) as other:
        assert (other.http_url, other.metrics_url) == (None, None)
        assert "Started HTTPService" not in other.log()
        assert echoed(other, [3.0]) == echoed(server, [3.0]) == [3.0]
    assert echoed(server, [4.0]) == [4.0]
    assert files_of(prefix_of(server.pid))


def test_stopped_server_leaves_nothing(repository: Path) -> None:
    lines: list[str] = []
    server = serve(repository, grpc_port=0, on_log=lines.append)
    prefix = prefix_of(server.pid)
    assert len(files_of(prefix)) >= 3  # a region, the lock, the private folder
    server.stop()
    server.stop()
    assert files_of(prefix) == processes_of(server.pid) == []
    assert "\n".join(lines) == server.log()


def test_server_killed_amid_a_request_is_noticed_and_leaves_nothing(repository: Path) -> None:
    with serve(repository, grpc_port=0) as server:
        prefix = prefix_of(server.pid)
        with busy(server.grpc_url, repository):
            os.kill(server.pid, signal.SIGKILL)
            with pytest.raises(ServerDiedError, match="SIGKILL"):
                server.wait()
        assert files_of(prefix) == processes_of(server.pid) == []


def test_death_of_a_model_process_is_reported(repository: Path) -> None:
    def kill_stub_then_server() -> None:
        (stub,) = set(processes_of(server.pid)) - {server.pid}
        time.sleep(1.2)  # after a second it is looked at, here or by the server's own thread
        assert not server.look()
        os.kill(stub, signal.SIGKILL)
        becomes_true(lambda: "has died" in server.log())
        os.kill(server.pid, signal.SIGKILL)

    with serve(repository, grpc_port=0) as server:
        killer = threading.Thread(target=kill_stub_then_server)
        killer.start()
        with pytest.raises(ServerDiedError):
            server.wait()
        killer.join()
    assert "identity/1/model.py has died, its requests fail" in server.log()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_failing_log_callback_does_not_block_the_server(repository: Path) -> None:
    def fail(line: str) -> None:
        raise OSError(line)

    with serve(repository, grpc_port=0, on_log=fail) as server:
        assert echoed(server, [7.0]) == [7.0]
        assert "Started GRPCInferenceService" in server.log()


def test_explicit_model_control_starts_without_models(repository: Path) -> None:
    with serve(repository, grpc_port=0, options=ServerOptions(model_control="explicit")) as server:
        assert server.models == ()
        with triton.InferenceServerClient(server.grpc_url) as client:
            client.load_model("identity")
        assert echoed(server, [5.0]) == [5.0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_stops_cleanly_on_a_signal(command: Command, number: int) -> None:
    process = command()
    pid = child_server(process)
    prefix = prefix_of(pid)
    process.send_signal(number)
    process.send_signal(number)  # as `timeout` and some shells do
    output, _ = process.communicate(timeout=LONG_S)
    assert (process.returncode, output) == (0, "")
    assert files_of(prefix) == processes_of(pid) == []


def test_command_interrupted_while_loading_leaves_nothing(command: Command, tmp_path: Path) -> None:
    process = command(repository=with_model(tmp_path, code=SLOW))
    assert becomes_true(lambda: servers_of(process))
    (pid,) = servers_of(process)
    prefix = prefix_of(pid)
    process.terminate()
    output, _ = process.communicate(timeout=LONG_S)  # far less than loading takes
    assert (process.returncode, output) == (0, "")
    assert files_of(prefix) == processes_of(pid) == []


def test_second_interruption_kills_the_server(command: Command, repository: Path) -> None:
    process = command()
    pid, url = announced(process)
    prefix = prefix_of(pid)
    with busy(url, repository):
        process.send_signal(signal.SIGINT)
        time.sleep(1.2)  # sooner it would be the same signal twice
        assert processes_of(pid)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LONG_S)
    assert process.returncode == 128 + signal.SIGINT
    assert files_of(prefix) == processes_of(pid) == []


def test_server_ends_with_a_killed_command(command: Command) -> None:
    process = command()
    pid = child_server(process)
    process.kill()
    assert becomes_true(lambda: not processes_of(pid))


def test_next_start_sweeps_after_dead_servers_only(
    server: RunningServer, command: Command, repository: Path
) -> None:
    process = command()
    pid = child_server(process)
    dead, living = prefix_of(pid), prefix_of(server.pid)
    kept = files_of(living)
    process.kill()
    last = kill_all_but_one(pid)
    with pytest.raises(ServerStartError):
        serve(repository, grpc_port=0, options=ServerOptions(startup_timeout_s=0))
    assert len(files_of(dead)) >= 3
    os.kill(last, signal.SIGKILL)
    assert becomes_true(lambda: not processes_of(pid))
    with pytest.raises(ServerStartError):
        serve(repository, grpc_port=0, options=ServerOptions(startup_timeout_s=0))
    assert becomes_true(lambda: not files_of(dead))  # another test's server may be at it
    assert files_of(living) == kept
    assert echoed(server, [6.0]) == [6.0]


def test_sweep_finds_what_a_server_with_another_tmpdir_left(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = command()
    pid = child_server(process)
    monkeypatch.undo()
    process.kill()
    last = kill_all_but_one(pid)
    assert len(list(tmp_path.glob("sapiens_server_*"))) == 1
    os.kill(last, signal.SIGKILL)
    assert becomes_true(lambda: not processes_of(pid))
    sweep()
    assert becomes_true(lambda: not list(tmp_path.glob("sapiens_server_*")))


def test_command_shows_errors_on_one_line(command: Command, server: RunningServer) -> None:
    process = command("--http-port", str(server.http_url).rpartition(":")[2])
    output, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, output) == (1, "")
    assert re.fullmatch(r"error: http_port must be free.*--http-port.*\n", errors)


@pytest.mark.parametrize("is_verbose", [False, True], ids=["quiet", "verbose"])
def test_command_shows_what_models_print(command: Command, tmp_path: Path, is_verbose: bool) -> None:
    process = command(*["--verbose"] * is_verbose, repository=with_model(tmp_path, code=TALKATIVE))
    child_server(process)
    process.terminate()
    _, errors = process.communicate(timeout=LONG_S)
    assert "a word from the model\n" in errors
    assert ("successfully loaded" in errors) == is_verbose
    assert "Cuda" not in errors or is_verbose
