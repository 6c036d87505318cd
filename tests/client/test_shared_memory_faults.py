"""Shared memory when processes are killed, calls are given up, and servers forget, hang or refuse."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from real_servers import running
from regions_seen import eventually, exists, known_to, stand_in_normals, unregister_all

from sapiens_client import (
    AsyncSapiensClient,
    ClientClosedError,
    ClientOptions,
    RequestTimeoutError,
    SapiensClient,
    ServerOverloadedError,
)
from sapiens_client.connection.settings import checked_settings
from sapiens_client.shared import memory as sharing
from sapiens_client.shared.regions import Region, is_orphan
from sapiens_client.steps import Endpoint, Flow, RpcFailure, Sleep
from sapiens_client.testing import FakeServer
from sapiens_client.wire.event_loop import AsyncTransport
from sapiens_client.wire.threads import Transport
from sapiens_server import RunningServer, ServerOptions

ASK = """
import sys, time, numpy as np
from sapiens_client import SapiensClient
client = SapiensClient(sys.argv[1])
print(client.normal(np.zeros((600, 600, 3), np.uint8)).timing.shared_bytes, flush=True)
time.sleep(float(sys.argv[2]))
"""


FORK = """
import os, sys, numpy as np
from sapiens_client import SapiensClient
client = SapiensClient(sys.argv[1])
image = np.zeros((600, 600, 3), np.uint8)
print("shared" if client.normal(image).timing.shared_bytes else "sent", flush=True)
memory = client._session._shared_memory
if os.fork() == 0:
    from sapiens_client.steps import Endpoint
    flow = memory.lease(Endpoint("localhost:1"), 2**21, 1.0)
    try:
        next(flow)
    except StopIteration as end:
        print("sent" if end.value is None else "shared", flush=True)
    os._exit(0)
os.wait()
"""


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (600, 640, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def server(replicated) -> Iterator[RunningServer]:
    """A server for this module alone, so that nobody else shares memory with it."""
    with running(replicated, grpc_port=0) as server:
        yield server


@pytest.fixture
def client(server) -> Iterator[SapiensClient]:
    with SapiensClient(server.grpc_url) as client:
        yield client


@pytest.mark.usefixtures("patient")
def test_a_process_that_does_not_close_its_client_leaves_nothing(server):
    command = [sys.executable, "-c", ASK, server.grpc_url, "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert int(process.stdout.readline()) > 600 * 600 * 3
        (name,) = known_to(server)
        assert exists(name)
    assert process.returncode == 0
    assert not exists(name)
    assert not known_to(server)


def test_what_a_killed_process_leaves_is_swept_by_the_next_client(server, image):
    with subprocess.Popen(
        [sys.executable, "-c", ASK, server.grpc_url, "60"], stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        (name,) = known_to(server)
        assert not is_orphan(name)
        process.kill()
    assert is_orphan(name)
    assert name in known_to(server)
    time.sleep(1.1)
    with SapiensClient(server.grpc_url) as client:
        client.normal(image)
        eventually(lambda: not exists(name) and name not in known_to(server))


@pytest.mark.usefixtures("patient")
def test_memory_that_a_server_still_writes_to_is_not_used_again(server, client, hold, held_image):
    ordinary = np.full((700, 702, 3), 3, np.uint8)
    client.seg(ordinary)
    (late,) = known_to(server)
    with pytest.raises(RequestTimeoutError):
        client.seg(held_image, timeout_s=5)
    assert not exists(late)
    result = client.normal(ordinary)
    np.testing.assert_array_equal(result.normals, stand_in_normals(ordinary))
    assert late in known_to(server), "it still works on it"
    hold.unlink()
    eventually(lambda: late not in known_to(server))
    assert known_to(server)


@pytest.mark.usefixtures("patient")
def test_what_a_client_could_not_have_forgotten_a_later_one_sweeps(server, image, hold, held_image):
    with SapiensClient(server.grpc_url) as client:
        with pytest.raises(RequestTimeoutError):
            client.seg(held_image, timeout_s=5)
        (late,) = known_to(server)
        client.normal(image)
    assert known_to(server) == {late}, "what it does not work with, it was told to forget"
    hold.unlink()

    def is_swept() -> bool:  # once the server has ended its work
        with SapiensClient(server.grpc_url) as other:
            other.normal(image)
        return late not in known_to(server)

    eventually(is_swept)


@pytest.fixture
def made(monkeypatch) -> list[Region]:
    """The regions that are made during the test."""
    regions: list[Region] = []
    make = Region.made
    monkeypatch.setattr(Region, "made", lambda num_bytes: regions.append(make(num_bytes)) or regions[-1])
    return regions


def test_no_result_is_wrong_and_nothing_is_left_when_others_do_not_wait(server, image, made):
    slow = np.zeros((700, 701, 3), np.uint8)
    images = [np.roll(image, shift, axis=0) for shift in range(8)]
    client = SapiensClient(server.grpc_url)

    def ask(number: int) -> None:
        result = client.normal(images[number % 8])
        np.testing.assert_array_equal(result.normals, stand_in_normals(images[number % 8]))

    def ask_in_vain(_: int) -> None:
        with pytest.raises((RequestTimeoutError, ServerOverloadedError)):
            client.depth(slow, timeout_s=0.4)

    async def ask_and_leave() -> None:
        async with AsyncSapiensClient(server.grpc_url) as twin:
            for _ in range(4):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(twin.depth(slow), 0.3)

    with ThreadPoolExecutor(8) as threads:
        others = [
            threads.submit(asyncio.run, ask_and_leave()),
            *(threads.submit(ask_in_vain, 0) for _ in range(6)),
        ]
        list(threads.map(ask, range(120)))
        for each in others:
            each.result()
    client.close()
    eventually(lambda: not any(exists(region.name) for region in made))
    assert len(made) > 8
    with SapiensClient(server.grpc_url) as other:
        time.sleep(1.5)
        other.normal(image)  # sweeps what the server worked with when the clients were closed
        eventually(lambda: len(known_to(server)) == 1)


def test_whoever_is_cancelled_while_taking_memory_leaves_none(made):
    def send(*_: object) -> Flow[bytes]:
        yield Sleep(0.001)
        return b""

    async def lease_and_leave() -> int:
        transport = AsyncTransport(checked_settings("localhost:1", False, None, None, ClientOptions()))
        memory, replica, rng = (
            sharing.SharedMemory(send, is_wanted=True),
            Endpoint("localhost:1"),
            random.Random(0),
        )

        async def use() -> None:
            memory.give_back(await transport.run(memory.lease(replica, 2**21, 1.0)))

        num_cancelled = 0
        for _ in range(150):
            tasks = [asyncio.create_task(use()) for _ in range(3)]
            await asyncio.sleep(rng.choice([0, 0.0002, 0.0005, 0.001, 0.002]))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            num_cancelled += sum(task.cancelled() for task in tasks)
        await transport.run(memory.close())
        await transport.close()
        return num_cancelled

    assert asyncio.run(lease_and_leave()) > 50
    assert made
    eventually(lambda: not any(exists(region.name) for region in made))


def test_copies_of_a_process_share_nothing_with_it(server, image):
    asked = subprocess.run(
        [sys.executable, "-c", FORK, server.grpc_url], capture_output=True, text=True, timeout=60, check=True
    )
    assert asked.stdout.split() == ["shared", "sent"], asked.stdout + asked.stderr


def test_where_memory_is_scarce_it_is_left_to_the_server(server, client, image, monkeypatch):
    monkeypatch.setattr("sapiens_client.shared.regions._MAX_SHARE", 1e-9)
    assert client.normal(image).timing.shared_bytes == 0


def test_a_model_that_answers_more_than_its_contract_says_answers_all_the_same(server, client):
    image = np.full((701, 700, 3), 5, np.uint8)
    result = client.depth(image)
    assert (result.depth.shape, result.timing.shared_bytes, result.timing.attempts) == ((702, 700), 0, 2)


def test_a_hanging_server_does_not_hold_up_the_end(replicated, image):
    options = ServerOptions(arguments=("--grpc-http2-min-recv-ping-interval-without-data=500",))
    with running(replicated, grpc_port=0, options=options) as server:
        client = SapiensClient(server.grpc_url)
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(client.normal, [image] * 12))
        regions = known_to(server)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            ended = threading.Thread(target=client.close)
            ended.start()
            ended.join(timeout=60)
            assert not ended.is_alive()
            assert not any(map(exists, regions))
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_a_token_that_cannot_be_had_does_not_keep_a_client_open(server, image):
    is_there = True

    def token() -> str:
        if not is_there:
            raise RuntimeError("the vault is down")
        return "secret"

    client = SapiensClient(server.grpc_url, token=token)
    client.normal(image)
    is_there = False
    client.close()
    is_there = True
    with pytest.raises(ClientClosedError):
        client.wait_until_ready(timeout_s=1)
    with SapiensClient(server.grpc_url) as other:
        other.normal(image)
        eventually(lambda: len(known_to(server)) == 1)


@pytest.mark.usefixtures("patient")
def test_a_server_that_forgot_a_region_is_told_again(server, image):
    with SapiensClient(server.grpc_url) as client:
        client.normal(image)
        unregister_all(server)
        result = client.normal(image)
    np.testing.assert_array_equal(result.normals, stand_in_normals(image))
    assert result.timing.attempts == 2


def test_who_forgets_again_and_again_is_told_no_more(server, image):
    with SapiensClient(server.grpc_url) as client:
        shared = []
        for _ in range(8):
            shared.append(client.normal(image).timing.shared_bytes > 0)
            unregister_all(server)
    assert shared[0]
    assert not any(shared[-2:])


def test_a_server_that_was_too_busy_to_answer_is_told_again():
    failures = ["DEADLINE_EXCEEDED"]

    def send(*_: object) -> Flow[bytes]:
        if failures:
            raise RpcFailure(failures.pop(), "busy")
        yield Sleep(0)
        return b""

    transport = Transport(checked_settings("localhost:1", False, None, None, ClientOptions()))
    memory = sharing.SharedMemory(send, is_wanted=True)
    leased = [transport.run(memory.lease(Endpoint("localhost:1"), 2**21, 1.0)) for _ in range(2)]
    transport.run(memory.close())
    memory.drop(leased[1])
    assert leased[0] is None
    assert leased[1] is not None


def test_a_server_that_has_no_shared_memory_answers_all_the_same(image):
    with FakeServer() as server, SapiensClient(server.url) as client:
        assert client.depth(image).timing.shared_bytes == 0
