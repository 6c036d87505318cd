"""`sapiens serve` keeps a real server running, tells how it is, and drains it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from supervised import (
    PATIENCE_S,
    Supervised,
    announced,
    becomes_true,
    children,
    command_line,
    ended,
    new_repository,
    started,
)
from tritonclient.utils import InferenceServerException

from sapiens_server.supervise.signals import _SAME_SIGNAL_S

Start = Callable[..., Supervised]
FIRST_PROCESS = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_repository(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def supervised(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """One command for all tests that do not end it; it is ready before each of them."""
    errors = tmp_path_factory.mktemp("log") / "errors"
    one = announced(started(repository, errors, "--http-port", "0", max_restarts=99))
    yield one
    ended(one)


@pytest.fixture
def start() -> Iterator[Start]:
    """A function like `started` whose commands end with the test."""
    all_started: list[Supervised] = []

    def run(*arguments: object, **options: object) -> Supervised:
        all_started.append(started(*arguments, **options))
        return all_started[-1]

    yield run
    for one in all_started:
        ended(one)


@pytest.fixture
def ready(supervised: Supervised) -> Supervised:
    assert becomes_true(supervised.is_ready), supervised.get("/ready")
    return supervised


def test_endpoint_tells_life_readiness_and_figures(ready: Supervised) -> None:
    assert ready.get("/live") == (200, "ok\n")
    told = {"ready": True, "phase": "serving", "problems": [], "models": {"picture": True}}
    assert json.loads(ready.get("/ready")[1]) == told
    assert ready.figure("ready") == 1
    assert ready.figure('restarts_total{cause="died"}') == ready.figure("stub_deaths_total") == 0
    assert ready.get("/nothing")[0] == 404


@pytest.mark.parametrize("cause", ["died", "model_process"])
def test_server_is_started_again_at_its_address(ready: Supervised, cause: str) -> None:
    server, figure = ready.server(), f'restarts_total{{cause="{cause}"}}'
    before = ready.figure(figure)
    stubs = [pid for pid in children(server) if b"/picture/1/model.py" in command_line(pid)]
    assert len(stubs) == 2
    os.kill(server if cause == "died" else stubs[0], signal.SIGKILL)
    assert becomes_true(lambda: ready.figure(figure) == before + 1)
    assert becomes_true(ready.is_ready)
    assert ready.server() not in (0, server)
    assert ready.ask() == [255, 1, 2]
    assert not any(Path(f"/proc/{pid}").exists() for pid in (server, *stubs))


@pytest.mark.slow
def test_server_that_hangs_is_not_ready_and_started_again(ready: Supervised) -> None:
    server = ready.server()
    os.kill(server, signal.SIGSTOP)
    assert becomes_true(lambda: not ready.is_ready())
    assert becomes_true(lambda: ready.figure('restarts_total{cause="hang"}') == 1)
    assert becomes_true(ready.is_ready)
    assert ready.ask() == [255, 1, 2]


def test_model_that_fails_is_not_ready_and_the_server_started_again(
    ready: Supervised, repository: Path
) -> None:
    broken = repository / "picture" / "1" / "broken"
    broken.touch()
    with pytest.raises(InferenceServerException, match="it is broken"):  # which makes the supervisor ask
        ready.ask()
    assert becomes_true(lambda: not ready.is_ready())
    assert becomes_true(lambda: ready.figure('restarts_total{cause="canary"}') >= 1)
    broken.unlink()
    assert becomes_true(ready.is_ready)
    assert ready.figure('canary_failures_total{model="picture"}') >= 2
    assert "restarting tritonserver: picture failed canaries: " in ready.errors.read_text()


@pytest.mark.slow
def test_model_that_does_nothing_is_told_from_one_that_takes_long(start: Start, tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "models")
    slow, asleep = (repository / "picture" / "1" / name for name in ("slow", "asleep"))
    slow.touch()
    one = announced(start(repository, tmp_path / "errors", patience_s=3))
    assert becomes_true(lambda: "no answer within 3 s" in one.get("/ready")[1])
    slow.unlink()
    assert becomes_true(one.is_ready)
    assert one.figure('restarts_total{cause="canary"}') == 0
    asleep.touch()
    os.kill(one.server(), signal.SIGKILL)
    assert becomes_true(lambda: one.figure('restarts_total{cause="canary"}') >= 1)
    asleep.unlink()
    assert becomes_true(one.is_ready)
    assert "nothing has worked for 3 s" in one.errors.read_text()


def test_foreign_model_that_fails_is_not_ready_and_restarts_nothing(start: Start, tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "models", is_own=False)
    (repository / "picture" / "1" / "broken").touch()
    one = announced(start(repository, tmp_path / "errors", max_restarts=0))
    assert becomes_true(lambda: one.figure('canary_failures_total{model="picture"}') >= 3)
    assert not one.is_ready()
    assert one.figure('restarts_total{cause="canary"}') == 0


def test_routes_that_change_the_server_want_a_key_that_nobody_has(ready: Supervised) -> None:
    with triton.InferenceServerClient(ready.grpc_url) as client:
        for refused in (
            lambda: client.update_trace_settings(settings={"trace_rate": "1"}),
            lambda: client.update_log_settings({"log_verbose_level": 1}),
            lambda: client.register_system_shared_memory("region", "/region", 8),
        ):
            with pytest.raises(InferenceServerException, match="This protocol is restricted"):
                refused()
        assert client.get_model_repository_index().models[0].name == "picture"
        assert client.get_inference_statistics().model_stats
    assert re.findall(rb"admin-key=([^\0]*)", command_line(ready.server())) == [b"*" * 64] * 2


@pytest.mark.slow
def test_every_ensemble_of_an_export_answers_canaries(
    start: Start, tasks_repository: Path, tmp_path: Path
) -> None:
    names = sorted(path.parent.name for path in tasks_repository.glob("*/config.pbtxt"))
    one = announced(start(tasks_repository, tmp_path / "errors"), models=", ".join(names))
    assert becomes_true(one.is_ready), one.get("/ready")
    assert json.loads(one.get("/ready")[1])["models"].keys() == {
        "depth",
        "depth_raw",
        "detect",
        "features",
        "human",
        "normal",
        "normal_raw",
        "people_pose",
        "pose",
        "seg",
        "seg_raw",
    }


@pytest.mark.slow
def test_drained_server_serves_until_it_is_quiet(start: Start, repository: Path, tmp_path: Path) -> None:
    one = announced(start(repository, tmp_path / "errors", "--drain-seconds", "60"))
    assert becomes_true(one.is_ready)
    server = one.server()
    assert one.ask() == [255, 1, 2]
    one.process.send_signal(signal.SIGTERM)
    assert becomes_true(lambda: not one.is_ready())
    assert one.figure("draining") == 1
    assert all(one.ask(first=1) == [1, 1, 2] for _ in range(5))
    one.process.communicate(timeout=PATIENCE_S)
    assert one.process.returncode == 0
    assert not Path(f"/proc/{server}").exists()


def test_a_limit_ends_a_drain_and_work_under_way_is_finished(
    start: Start, repository: Path, tmp_path: Path
) -> None:
    (repository / "picture" / "1" / "waiting").unlink(missing_ok=True)
    one = announced(start(repository, tmp_path / "errors", "--drain-seconds", "1"))
    with triton.InferenceServerClient(one.grpc_url) as client:
        image = np.array([30, 1, 2], np.uint8)  # three seconds
        tensor = triton.InferInput("image", [3], "UINT8").set_data_from_numpy(image)
        answers: list[object] = []
        client.async_infer("picture", [tensor], lambda result, error: answers.append(error or result))
        assert becomes_true(lambda: (repository / "picture" / "1" / "waiting").exists())
        one.process.send_signal(signal.SIGTERM)
        one.process.communicate(timeout=PATIENCE_S)
        assert becomes_true(lambda: answers)
    assert isinstance(answers[0], triton.InferResult)
    assert one.process.returncode == 0


def test_second_signal_ends_a_drain_at_once(start: Start, repository: Path, tmp_path: Path) -> None:
    one = announced(start(repository, tmp_path / "errors", "--drain-seconds", "600"))
    with triton.InferenceServerClient(one.grpc_url) as client:
        image = np.array([49, 1, 2], np.uint8)
        tensor = triton.InferInput("image", [3], "UINT8").set_data_from_numpy(image)
        for _ in range(100):  # more than it can finish
            client.async_infer("picture", [tensor], lambda result, error: None)
        one.process.send_signal(signal.SIGTERM)
        assert becomes_true(lambda: one.figure('phase_seconds{phase="draining"}') > _SAME_SIGNAL_S)
        assert one.process.poll() is None
        one.process.send_signal(signal.SIGTERM)
        one.process.communicate(timeout=PATIENCE_S)
    assert one.process.returncode == 128 + signal.SIGTERM


def test_server_that_dies_again_and_again_is_given_up(start: Start, tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "models")
    one = announced(start(repository, tmp_path / "errors", max_restarts=1))
    (repository / "picture" / "1" / "deadly").touch()
    with suppress(InferenceServerException):  # from then on its canaries kill it, too
        one.ask()
    one.process.communicate(timeout=PATIENCE_S)
    assert one.process.returncode == 3
    assert "error: tritonserver must stay up after at most 1 restarts" in (tmp_path / "errors").read_text()


def may_unshare() -> bool:
    """Whether this user may start a process as the first of its kind, as containers do."""
    return subprocess.run([*FIRST_PROCESS, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="needs the right to make process namespaces")
def test_first_process_of_a_container_collects_all_others(
    start: Start, repository: Path, tmp_path: Path
) -> None:
    one = announced(start(repository, tmp_path / "errors", "--drain-seconds", "0", before=FIRST_PROCESS))
    assert becomes_true(one.is_ready)
    (launcher,) = children(one.process.pid)
    (server,) = children(launcher)
    stubs = children(server)
    os.kill(server, signal.SIGKILL)
    assert becomes_true(lambda: one.figure('restarts_total{cause="died"}') == 1)
    assert becomes_true(one.is_ready)
    assert not any(Path(f"/proc/{pid}").exists() for pid in (server, *stubs))
    (server,) = children(launcher)
    os.kill(launcher, signal.SIGTERM)
    one.process.communicate(timeout=PATIENCE_S)
    assert one.process.returncode == 0


SMALL_SHARED_MEMORY = ("unshare", "--mount", "sh", "-c")


@pytest.mark.slow
@pytest.mark.skipif(not may_unshare(), reason="needs the right to make mount namespaces")
def test_server_that_ran_out_of_shared_memory_is_started_again(
    start: Start, repository: Path, tmp_path: Path
) -> None:
    script = 'mount -t tmpfs -o size=24m tmpfs /dev/shm && exec "$0" "$@"'
    one = announced(start(repository, tmp_path / "errors", before=(*SMALL_SHARED_MEMORY, script)))
    assert becomes_true(one.is_ready)
    shared_memory = Path(f"/proc/{one.process.pid}/root/dev/shm")
    filler = shared_memory / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    failures = []

    def is_started_again() -> bool:
        try:
            one.ask(num_bytes=4_000_000)
        except InferenceServerException as error:
            failures.append(str(error))
        return "restarting" in one.get("/ready")[1]

    assert becomes_true(is_started_again)
    assert "Failed to increase the shared memory pool size" in failures[0]
    filler.unlink()
    assert becomes_true(one.is_ready)
    assert one.figure('restarts_total{cause="shared_memory"}') == 1
    assert one.ask(num_bytes=4_000_000)
