"""What callers of both clients get for every failure that a real server can be made to have, by its phase.

connect    the server is gone, or stopped as by a debugger
queue      the request is refused, or waits for too long
compute    the model fails: a Python model may end with eight statuses of gRPC
transfer   the server is killed while the answer is awaited
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from real_servers import becomes_true, running, states_of_threads
from told import AGAIN, EXPORT, LOG, LONGER, START, THE_SERVERS_OWN, assert_tells, patience_s

from sapiens_client import (
    InferenceError,
    InvalidInputError,
    ModelNotServedError,
    RequestTimeoutError,
    SapiensClient,
    ServerOverloadedError,
    ServerUnavailableError,
)
from sapiens_server import RunningServer

HALF_S = 0.6  # of the time that the model takes when it is slow

# What the model does -> gRPC's status, class, how often (twice if it may be its own fault), what to do.
COMPUTE = {
    "UNKNOWN": ("UNKNOWN", InferenceError, 1, LOG),
    "INTERNAL": ("INTERNAL", InferenceError, 1, LOG),
    "NOT_FOUND": ("NOT_FOUND", ModelNotServedError, 1, EXPORT),
    "INVALID_ARG": ("INVALID_ARGUMENT", InvalidInputError, 1, THE_SERVERS_OWN),
    "UNAVAILABLE": ("UNAVAILABLE", ServerUnavailableError, AGAIN, START),
    "UNSUPPORTED": ("UNIMPLEMENTED", InferenceError, 1, LOG),
    "ALREADY_EXISTS": ("ALREADY_EXISTS", InferenceError, 1, LOG),
    "CANCELLED": ("CANCELLED", ServerUnavailableError, 2, START),
    "RAISE": ("INTERNAL", InferenceError, 1, LOG),
    "SLOW": ("DEADLINE_EXCEEDED", RequestTimeoutError, 1, LONGER),
}


# How a log tells of queues.
QUEUES = {"UNAVAILABLE: Exceeds maximum queue size", "UNAVAILABLE: Request timeout expired"}


@pytest.fixture(scope="module")
def two_servers(faulty) -> Iterator[list[RunningServer]]:
    with running(faulty, grpc_port=0) as one, running(faulty, grpc_port=0) as other:
        yield [one, other]


@pytest.fixture
def two(two_servers) -> list[RunningServer]:
    """Both servers, idle."""
    for server in two_servers:
        with SapiensClient(server.grpc_url) as client:
            while is_busy(client):
                time.sleep(0.1)
    return two_servers


@pytest.fixture
def server(two) -> RunningServer:
    return two[0]


def is_busy(client: SapiensClient) -> bool:
    try:
        return client.depth(b"WELL").depth.shape != (1, 1)
    except (RequestTimeoutError, ServerOverloadedError):
        return True


@contextmanager
def occupied(server: RunningServer) -> Iterator[None]:
    """Let the one instance of the model work without a pause."""
    is_over = threading.Event()

    def occupy() -> None:
        with SapiensClient(server.grpc_url) as client:
            while not is_over.is_set():
                client.depth(b"SLOW")

    thread = threading.Thread(target=occupy)
    thread.start()
    time.sleep(HALF_S)
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("word", COMPUTE)
def test_every_failure_of_a_model_is_told(word, server, ask):
    status, *told = COMPUTE[word]
    error = ask(server.grpc_url, word.encode(), patience_s(told))
    assert_tells(error, told, error.request_id)
    assert (error.url, len(error.request_id)) == (server.grpc_url, 8)
    assert error.__cause__.code == status
    assert status == "DEADLINE_EXCEEDED" or "some reason" in str(error)


@pytest.mark.parametrize("model", ["depth_other", "resnet50"])
def test_models_of_others_do_not_matter_until_one_is_asked_for(model, server):
    with SapiensClient(server.grpc_url) as client:
        assert client.depth(b"WELL").depth.shape == (1, 1)
        with pytest.raises(
            ModelNotServedError,
            match=f"^'{model}' at {server.grpc_url} is no model of Sapiens: .* with `sapiens export`$",
        ) as caught:
            client.depth(b"WELL", model=model)
    assert caught.value.url == server.grpc_url


def test_models_of_others_under_the_names_of_tasks_are_called_so(server, encode, photo):
    with SapiensClient(server.grpc_url) as client:
        with pytest.raises(ModelNotServedError, match=r"^'normal' at .* is no model of Sapiens"):
            client.normal(encode(photo))
        with pytest.raises(ModelNotServedError, match=r"ensemble for seg .*, got 'seg' at .* for depth"):
            client.seg(encode(photo))


def test_full_queues_and_those_that_give_up_are_told_apart_and_waited_out(server, ask, caplog):
    caplog.set_level(logging.INFO, "sapiens_client")
    with ThreadPoolExecutor(4) as threads:
        with occupied(server):
            calls = [threads.submit(ask, server.grpc_url, b"WELL", 60) for _ in range(4)]
            assert eventually(lambda: {told_again(line) for line in caplog.messages} >= QUEUES)
        answers = [call.result() for call in calls]
    assert [answer.depth.shape for answer in answers] == [(1, 1)] * 4
    assert {told_again(line) for line in caplog.messages} == QUEUES


def told_again(line: str) -> str:
    return line.partition(" with ")[2].partition("; trying")[0]


def eventually(claim: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 60
    while not claim() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return claim()


def test_a_deadline_that_passes_in_the_queue_is_told(server, ask):
    with occupied(server):
        error = ask(server.grpc_url, b"WELL", 0.3)
    assert_tells(error, (RequestTimeoutError, 1, LONGER), error.request_id)


def test_a_request_that_waited_for_too_long_is_sent_once_more_to_another_server(two, ask):
    urls = [server.grpc_url for server in two]
    with occupied(two[0]):
        answers = [ask(urls, b"WELL", 5), ask(urls[::-1], b"WELL", 5)]
    assert sorted(answer.timing.attempts for answer in answers) == [1, 2]


def test_a_server_that_is_killed_at_work_and_stays_away_is_told(faulty, ask):
    with running(faulty, grpc_port=0) as server, ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(ask, server.grpc_url, b"SLOW", 5)
        time.sleep(HALF_S)
        os.kill(server.pid, signal.SIGKILL)
        error = under_way.result()
        assert_tells(error, (ServerUnavailableError, AGAIN, START), error.request_id)
        assert error.request_id
        assert_tells(ask(server.grpc_url, b"WELL", 1), (ServerUnavailableError, AGAIN, START), None)


@contextmanager
def stopped(server: RunningServer) -> Iterator[None]:
    """Let a server hang as under a debugger; it goes on until its last thread has heard of it."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert becomes_true(lambda: set(states_of_threads(server.pid)) == {"T"})
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_a_server_that_hangs_before_it_was_connected_to_is_told(server, ask):
    with stopped(server):
        error = ask(server.grpc_url, b"WELL", 0.7)
    assert_tells(error, (RequestTimeoutError, 1, LONGER), None)


def test_few_calls_wait_for_a_server_that_hangs(two):
    with SapiensClient([server.grpc_url for server in two]) as client:
        for _ in two:
            client.depth(b"WELL")
        with stopped(two[0]):
            num_late = sum(is_late(client) for _ in range(100))
    assert 1 <= num_late < 10, "a ping would have found it out after 20 calls or more"


def is_late(client: SapiensClient) -> bool:
    time.sleep(0.02)
    try:
        return client.depth(b"WELL", timeout_s=0.3).depth.shape != (1, 1)
    except RequestTimeoutError:
        return True
