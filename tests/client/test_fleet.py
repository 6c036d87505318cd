"""Real servers come and go while calls are made: none fails."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import tritonclient.grpc
from real_servers import running

from sapiens_client import AsyncSapiensClient, ClientOptions, NormalResult, SapiensClient
from sapiens_server import RunningServer

OPTIONS = ClientOptions(resolve_every_s=0.2)
NUM_CALLERS = 3


@contextmanager
def load(url: str | list[str], image: np.ndarray) -> Iterator[list[NormalResult]]:
    """The results of calls that both clients make meanwhile; the first failure is raised at the end."""
    is_over, results = threading.Event(), []

    def call(client: SapiensClient) -> None:
        while not is_over.is_set():
            results.append(client.normal(image))

    async def call_too() -> None:
        async def call() -> None:
            while not is_over.is_set():
                results.append(await client.normal(image))

        async with AsyncSapiensClient(url, options=OPTIONS) as client:
            await asyncio.gather(*(call() for _ in range(NUM_CALLERS)))

    with SapiensClient(url, options=OPTIONS) as client, ThreadPoolExecutor(NUM_CALLERS + 1) as threads:
        calls = [threads.submit(call, client) for _ in range(NUM_CALLERS)]
        calls.append(threads.submit(asyncio.run, call_too()))
        try:
            yield results
        finally:
            is_over.set()
        for each in calls:
            each.result()


def eventually(claim: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 60
    while not claim() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return claim()


def num_answered(server: RunningServer) -> int:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        (normal,) = client.get_inference_statistics("normal").model_stats
        return normal.inference_stats.success.count


def is_in_use(server: RunningServer) -> bool:
    before = num_answered(server)
    time.sleep(0.3)
    return num_answered(server) > before


def test_no_call_fails_in_a_rolling_restart(replicated, photo):
    with ExitStack() as servers:
        fleet = [servers.enter_context(running(replicated, grpc_port=0)) for _ in range(2)]
        with load([server.grpc_url for server in fleet], photo) as results:
            for server in fleet:
                server.stop()
                port = int(server.grpc_url.rpartition(":")[2])
                again = servers.enter_context(running(replicated, grpc_port=port))
                assert eventually(lambda again=again: num_answered(again) > 0)
    assert len(results) > 100
    assert max(result.timing.attempts for result in results) > 1


def test_no_call_fails_while_the_addresses_behind_a_name_change(replicated, photo, monkeypatch):
    numbers, ask_the_system = ["127.0.0.1"], socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *more: Any, **options: Any) -> list[Any]:
        if host != "fleet.example":
            return ask_the_system(host, port, *more, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port)) for number in numbers]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with running(replicated, grpc_port=0) as one:
        port = int(one.grpc_url.rpartition(":")[2])
        with (
            running(replicated, host="127.0.0.2", grpc_port=port) as other,
            load(f"dns:///fleet.example:{port}", photo) as results,
        ):
            assert eventually(lambda: is_in_use(one))
            assert not is_in_use(other)
            numbers.append("127.0.0.2")
            assert eventually(lambda: is_in_use(other))
            assert is_in_use(one)
            numbers.remove("127.0.0.1")
            assert eventually(lambda: not is_in_use(one))
            one.stop()
            assert is_in_use(other)
    assert {result.timing.attempts for result in results} == {1}
