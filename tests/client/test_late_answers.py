"""Calls that get no answer in time: a server that hangs is left alone, one that is only slow is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from sapiens_client import RequestTimeoutError, SapiensClient
from sapiens_client.testing import FakeServer


@pytest.fixture
def two() -> Iterator[list[FakeServer]]:
    with FakeServer() as one, FakeServer() as other:
        yield [one, other]


def eventually(claim: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 60
    while not claim() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return claim()


def num_late(client: SapiensClient, image: np.ndarray, num_calls: int) -> int:
    late = 0
    for _ in range(num_calls):
        try:
            client.normal(image, timeout_s=0.3)
        except RequestTimeoutError:
            late += 1
        time.sleep(0.02)
    return late


def num_asked(server: FakeServer, method: str) -> int:
    return sum(request.method == method for request in server.requests)


def test_a_server_that_hangs_gets_calls_again_when_it_goes_on(two, photo):
    with SapiensClient([server.url for server in two]) as client:
        client.normal(photo)
        two[0].hang()
        assert 1 <= num_late(client, photo, 40) < 10
        two[0].release()
        before = num_asked(two[0], "ModelInfer")
        assert eventually(lambda: bool(client.normal(photo)) and num_asked(two[0], "ModelInfer") > before)


def test_a_server_that_is_only_slow_keeps_its_share(two, photo):
    with SapiensClient([server.url for server in two]) as client:
        client.normal(photo)
        for server in two:
            server.latency_s = 1
        assert num_late(client, photo, 2) == 2
        assert eventually(lambda: all(num_asked(server, "ServerReady") for server in two))
        before = [num_asked(server, "ModelInfer") for server in two]
        for server in two:
            server.recover()
        for _ in range(6):
            client.normal(photo)
        assert [num_asked(server, "ModelInfer") for server in two] == [count + 3 for count in before]
