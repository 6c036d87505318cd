"""What happens to calls when real servers die, hang, leave, are full, or lose a process."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from real_servers import running

from sapiens_client import (
    ClientOptions,
    InferenceError,
    InvalidInputError,
    ModelNotServedError,
    NormalResult,
    SapiensClient,
    ServerUnavailableError,
)
from sapiens_client.testing import FakeServer
from sapiens_server import RunningServer, ServerOptions, serve

Start = Callable[[], RunningServer]


@pytest.fixture
def start(replicated) -> Iterator[Start]:
    """A function that starts a server, which takes pings as often as once in half a second."""
    options = ServerOptions(arguments=("--grpc-http2-min-recv-ping-interval-without-data=500",))
    with ExitStack() as servers:
        yield lambda: servers.enter_context(running(replicated, grpc_port=0, options=options))


@pytest.fixture(scope="module")
def crowded_url(replicated) -> Iterator[str]:
    with running(replicated, grpc_port=0) as server:
        yield server.grpc_url


def under_load(client: SapiensClient, image: np.ndarray, event: Callable[[], object]) -> list[NormalResult]:
    """Return the results of calls by four threads, before, during and after an event."""
    is_over = threading.Event()

    def call() -> list[NormalResult]:
        results = [client.normal(image) for _ in range(5)]
        while not is_over.is_set():
            results.append(client.normal(image))
        return results + [client.normal(image) for _ in range(5)]

    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(call) for _ in range(4)]
        time.sleep(0.3)
        try:
            event()
        finally:
            is_over.set()
        return [result for each in calls for result in each.result()]


def python_model(server: RunningServer, model: str) -> int:
    """Return the id of the process of a model."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().decode(errors="replace")
            parent = (process.parent / "stat").read_text().rpartition(") ")[2].split()[1]
        except OSError:
            continue
        if f"/{model}/1/model.py" in words and parent == str(server.pid):
            return int(process.parent.name)
    raise AssertionError(f"{model} must have a process")


def test_no_call_fails_when_one_of_two_servers_is_killed(start, photo):
    one, other = start(), start()
    with SapiensClient([one.grpc_url, other.grpc_url]) as client:
        results = under_load(client, photo, lambda: os.kill(one.pid, signal.SIGKILL))
        assert max(result.timing.attempts for result in results) <= 3
        assert client.ready()


def test_no_call_fails_when_one_of_two_servers_stops_in_order(start, photo):
    one, other = start(), start()
    with SapiensClient(f"{one.grpc_url},{other.grpc_url}") as client:
        results = under_load(client, photo, one.stop)
        assert all(result.image_hw == (120, 90) for result in results)


def test_no_call_fails_when_one_of_two_servers_hangs(start, photo):
    one, other = start(), start()
    options = ClientOptions(keepalive_s=1, keepalive_timeout_s=1)
    with SapiensClient([one.grpc_url, other.grpc_url], options=options) as client:

        def hang() -> None:
            os.kill(one.pid, signal.SIGSTOP)
            time.sleep(4)

        try:
            results = under_load(client, photo, hang)
        finally:
            os.kill(one.pid, signal.SIGCONT)
    assert any(result.timing.attempts > 1 for result in results)


def test_a_dead_process_of_one_server_costs_no_call_where_there_are_two(start, photo, caplog):
    one, other = start(), start()
    caplog.set_level(logging.INFO, "sapiens_client")
    with SapiensClient([one.grpc_url, other.grpc_url]) as client:

        def kill() -> None:
            os.kill(python_model(one, "normal"), signal.SIGKILL)
            time.sleep(1.5)

        assert any(result.timing.attempts > 1 for result in under_load(client, photo, kill))
    assert f"failed at {one.grpc_url} with INTERNAL" in caplog.text
    with (
        SapiensClient(one.grpc_url, options=ClientOptions(max_attempts=1)) as client,
        pytest.raises(
            InferenceError, match=r"about request [0-9a-f]{8}; a process .* restart the server"
        ) as caught,
    ):
        client.normal(photo)
    os.kill(one.pid, signal.SIGKILL)  # it would wait for its dead process when told to stop
    assert (caught.value.url, caught.value.attempts, len(caught.value.request_id)) == (one.grpc_url, 1, 8)


def test_no_call_fails_when_a_server_leaves_before_the_other_is_known_to_be_back(photo):
    with FakeServer() as one, FakeServer() as other, SapiensClient([one.url, other.url]) as client:
        one.stop()
        for _ in range(2):
            client.normal(photo)
        time.sleep(1)  # by now the next attempt to connect is as far away as it may be
        one.start()
        other.drain()
        with ThreadPoolExecutor(24) as threads:
            results = list(threads.map(client.normal, [photo] * 24))
        assert {result.timing.attempts for result in results} <= {1, 2}
        assert client.normal(photo).timing.attempts == 1


def test_a_server_that_was_restarted_is_found_again(replicated, photo):
    with serve(replicated, grpc_port=0) as server:
        client = SapiensClient(server.grpc_url)
        client.normal(photo)
    with pytest.raises(ServerUnavailableError, match=server.grpc_url) as caught:
        client.normal(photo, timeout_s=1)
    assert caught.value.url == server.grpc_url
    with running(replicated, grpc_port=int(server.grpc_url.rpartition(":")[2])):
        assert client.normal(photo).image_hw == (120, 90)
    client.close()


def test_names_stand_for_their_addresses(crowded_url, photo):
    with SapiensClient("dns:///localhost:" + crowded_url.rpartition(":")[2]) as client:
        assert client.normal(photo).timing.attempts == 1
    with (
        SapiensClient("dns:///no-such-host.invalid:8001") as client,
        pytest.raises(ServerUnavailableError, match=r"no-such-host\.invalid.*check the name"),
    ):
        client.normal(photo)


def test_what_every_server_would_refuse_is_sent_once(crowded_url, photo):
    with SapiensClient(crowded_url) as client:
        with pytest.raises(InvalidInputError) as caught:
            client.normal(b"no image")
        assert caught.value.attempts == 1
        with pytest.raises(ModelNotServedError) as caught:
            client.pose(photo)
        assert caught.value.attempts == 1


def test_full_queues_and_those_that_give_up_are_waited_out(crowded_url, slow_image):
    with SapiensClient(crowded_url) as client, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(client.depth, [slow_image] * 4))  # one works, one waits, two are refused
    assert [answer.depth.shape for answer in answers] == [(1, 2)] * 4
    assert max(answer.timing.attempts for answer in answers) > 1


def test_a_full_server_sends_callers_to_another(crowded_url, start, slow_image):
    other = start()
    with SapiensClient([crowded_url, other.grpc_url]) as client, ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(client.depth, [slow_image, slow_image]))
    assert [answer.depth.shape for answer in answers] == [(1, 2), (1, 2)]
