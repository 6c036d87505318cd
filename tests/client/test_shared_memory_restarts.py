"""Shared memory when servers are killed, started again, and do not allow it or do so only later."""

from __future__ import annotations

import logging
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from real_servers import running
from regions_seen import known_to, stand_in_normals

from sapiens_client import SapiensClient, ServerUnavailableError
from sapiens_server import ServerOptions

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (600, 640, 3), dtype=np.uint8)


def test_a_killed_server_spoils_nobodys_result(replicated, image):
    with running(replicated, grpc_port=0) as one, running(replicated, grpc_port=0) as other:
        client = SapiensClient([one.grpc_url, other.grpc_url])

        def ask(number: int) -> int:
            if number == 20:
                os.kill(one.pid, signal.SIGKILL)
            rolled = np.roll(image, number, axis=0)
            result = client.normal(rolled)
            np.testing.assert_array_equal(result.normals, stand_in_normals(rolled))
            return result.timing.attempts

        with ThreadPoolExecutor(6) as threads:
            assert max(threads.map(ask, range(60))) > 1
        client.close()
        assert not known_to(other)


@pytest.mark.usefixtures("patient")
def test_a_server_that_was_restarted_is_told_anew(replicated, image):
    with running(replicated, grpc_port=0) as server:
        client = SapiensClient(server.grpc_url)
        client.normal(image)
        os.kill(server.pid, signal.SIGKILL)
    with running(replicated, grpc_port=int(server.grpc_url.rpartition(":")[2])) as server:
        client.wait_until_ready(timeout_s=120)
        client.normal(image)  # the first try may be how the client finds out
        result = client.normal(image)
        np.testing.assert_array_equal(result.normals, stand_in_normals(image))
        assert result.timing.shared_bytes > 0
        client.close()
        assert not known_to(server)


def test_a_server_that_does_not_allow_it_is_asked_once(replicated, image, caplog):
    caplog.set_level(logging.DEBUG, "sapiens_client")
    options = ServerOptions(arguments=("--grpc-restricted-protocol=shared-memory:admin-key=secret",))
    with (
        running(replicated, grpc_port=0, options=options) as server,
        SapiensClient(server.grpc_url) as client,
    ):
        results = [client.normal(image) for _ in range(3)]
    for result in results:
        np.testing.assert_array_equal(result.normals, stand_in_normals(image))
        assert (result.timing.shared_bytes, result.timing.attempts) == (0, 1)
    assert caplog.text.count("no shared memory with") == 1


def test_a_server_that_allows_it_after_a_restart_is_asked_again(replicated, image):
    options = ServerOptions(arguments=("--grpc-restricted-protocol=shared-memory:admin-key=secret",))
    with running(replicated, grpc_port=0, options=options) as server:
        client = SapiensClient(server.grpc_url)
        assert client.normal(image).timing.shared_bytes == 0
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(ServerUnavailableError):
            client.normal(image, timeout_s=1)
    with running(replicated, grpc_port=int(server.grpc_url.rpartition(":")[2])):
        client.wait_until_ready(timeout_s=120)
        assert client.normal(image).timing.shared_bytes > 0
        client.close()
