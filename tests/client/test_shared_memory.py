"""Large arrays through shared memory: the same results, and nothing left behind, whatever happens."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from sapiens_client import AsyncSapiensClient, ClientOptions, RequestTimeoutError, SapiensClient
from sapiens_client import shared_memory as sharing
from sapiens_client.shared_regions import FOLDER, PREFIX, Region, is_orphan, remove_orphans
from sapiens_client.testing import FakeServer
from sapiens_server import RunningServer, ServerOptions, serve

PLAIN = ClientOptions(shared_memory=False)
ASK = """
import sys, time, numpy as np
from sapiens_client import SapiensClient
client = SapiensClient(sys.argv[1])
print(client.normal(np.zeros((600, 600, 3), np.uint8)).timing.shared_bytes, flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (600, 640, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def server(replicated) -> Iterator[RunningServer]:
    """A server for this module alone, so that nobody else shares memory with it."""
    with serve(replicated, grpc_port=0) as server:
        yield server


@pytest.fixture
def client(server) -> Iterator[SapiensClient]:
    with SapiensClient(server.grpc_url) as client:
        yield client


def stand_in_normals(image: np.ndarray) -> np.ndarray:
    return image[:, :, ::-1].astype(np.float32) - 127


def known_to(server: RunningServer) -> set[str]:
    """Return the names of the regions that a server knows."""
    with grpc.insecure_channel(server.grpc_url) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/SystemSharedMemoryStatus")
        return set(pb.SystemSharedMemoryStatusResponse.FromString(method(b"")).regions)


def files() -> set[str]:
    """Return the names of the regions that exist, whoever has them."""
    return {path.name for path in FOLDER.glob(f"{PREFIX}*")}


def wait_until_forgotten(server: RunningServer) -> None:
    deadline_s = time.monotonic() + 20
    while known_to(server) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert not known_to(server)


@pytest.mark.parametrize("task", ["normal", "depth"])
def test_shared_results_equal_those_that_travel(task, server, client, image):
    shared = getattr(client, task)(image)
    with SapiensClient(server.grpc_url, options=PLAIN) as other:
        sent = getattr(other, task)(image)
    (array, expected) = (next(iter(result.arrays().values())) for result in (shared, sent))
    np.testing.assert_array_equal(array, expected)
    assert not array.flags.writeable
    assert shared.timing.shared_bytes >= image.nbytes + array.nbytes
    assert shared.timing.request_bytes + shared.timing.response_bytes < 2000
    assert sent.timing.shared_bytes == 0
    assert sent.timing.response_bytes > array.nbytes


def test_small_images_travel(client, photo):
    assert client.normal(photo).timing.shared_bytes == 0


def test_results_keep_their_values_when_later_ones_come(client, image):
    first = client.normal(image)
    expected = first.normals.copy()
    client.normal(255 - image)
    np.testing.assert_array_equal(first.normals, expected)


def test_one_region_serves_call_after_call_and_only_its_owner_may_read_it(server, client, image):
    before = files()
    for _ in range(3):
        client.normal(image)
    (name,) = files() - before
    assert known_to(server) == {name}
    mode = (FOLDER / name).stat().st_mode
    assert (stat.S_IMODE(mode), len(name.removeprefix(PREFIX))) == (0o600, 32)


def test_a_larger_image_takes_the_place_of_a_smaller_one(server, client, image):
    before = files()
    client.normal(image)
    small = files() - before
    client.normal(np.tile(image, (2, 2, 1)))
    assert len(files() - before) == 1
    assert not small & files()
    wait = time.monotonic() + 10
    while small & known_to(server) and time.monotonic() < wait:
        time.sleep(0.05)
        client.normal(image)
    assert not small & known_to(server)


def test_calls_at_a_time_have_regions_of_their_own(client, image):
    images = [np.roll(image, shift, axis=0) for shift in range(24)]
    before = files()
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(client.normal, images))
    for each, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result.normals, stand_in_normals(each))
        assert result.timing.shared_bytes > 0
    assert 1 <= len(files() - before) <= 4


def test_closing_leaves_nothing(server, image):
    before = files()
    with SapiensClient(server.grpc_url) as client:
        client.normal(image)
        assert files() - before
    assert files() == before
    assert not known_to(server)


def test_the_async_client_shares_and_leaves_nothing(server, image):
    before = files()

    async def ask() -> None:
        async with AsyncSapiensClient(server.grpc_url) as client:
            results = await asyncio.gather(*(client.normal(image) for _ in range(4)))
            for result in results:
                np.testing.assert_array_equal(result.normals, stand_in_normals(image))
                assert result.timing.shared_bytes > 0

    asyncio.run(ask())
    assert files() == before
    assert not known_to(server)


def test_a_process_that_does_not_close_its_client_leaves_nothing(server):
    before = files()
    ended = subprocess.run(
        [sys.executable, "-c", ASK, server.grpc_url, "0"], capture_output=True, text=True, check=True
    )
    assert int(ended.stdout) > 600 * 600 * 3
    assert files() == before
    assert not known_to(server)


def test_what_a_killed_process_leaves_is_swept_by_the_next_client(server, image):
    before = files()
    with subprocess.Popen(
        [sys.executable, "-c", ASK, server.grpc_url, "60"], stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        (name,) = files() - before
        assert not is_orphan(name)
        process.kill()
    assert is_orphan(name)
    assert name in known_to(server)
    time.sleep(1.1)
    with SapiensClient(server.grpc_url) as client:
        client.normal(image)
        deadline_s = time.monotonic() + 10
        while name in files() | known_to(server) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert name not in files() | known_to(server)


def test_memory_that_a_server_still_writes_to_is_not_used_again(server, client):
    slow = np.zeros((700, 701, 3), np.uint8)
    ordinary = np.full((700, 701 + 1, 3), 3, np.uint8)
    client.depth(ordinary)
    with pytest.raises(RequestTimeoutError):
        client.depth(slow, timeout_s=0.5)
    for _ in range(3):
        result = client.normal(ordinary)
        np.testing.assert_array_equal(result.normals, stand_in_normals(ordinary))
    client.close()
    with SapiensClient(server.grpc_url) as other:  # sweeps what the server still held at the end
        time.sleep(1.5)
        other.normal(ordinary)
    wait_until_forgotten(server)


def test_a_killed_server_spoils_nobodys_result(replicated, image):
    with serve(replicated, grpc_port=0) as one, serve(replicated, grpc_port=0) as other:
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


def test_a_server_that_was_restarted_is_told_anew(replicated, image):
    with serve(replicated, grpc_port=0) as server:
        client = SapiensClient(server.grpc_url)
        client.normal(image)
        os.kill(server.pid, signal.SIGKILL)
    with serve(replicated, grpc_port=int(server.grpc_url.rpartition(":")[2])) as server:
        client.wait_until_ready(timeout_s=30)
        result = client.normal(image)
        np.testing.assert_array_equal(result.normals, stand_in_normals(image))
        assert result.timing.shared_bytes > 0
        client.close()
        assert not known_to(server)


def test_a_server_that_forgot_a_region_is_told_again(server, image):
    with SapiensClient(server.grpc_url) as client:
        client.normal(image)
        with grpc.insecure_channel(server.grpc_url) as channel:
            method = channel.unary_unary("/inference.GRPCInferenceService/SystemSharedMemoryUnregister")
            method(b"")  # all regions
        result = client.normal(image)
    np.testing.assert_array_equal(result.normals, stand_in_normals(image))
    assert result.timing.attempts == 2


def test_a_server_that_does_not_allow_it_is_asked_once(replicated, image, caplog):
    caplog.set_level(logging.DEBUG, "sapiens_client")
    options = ServerOptions(arguments=("--grpc-restricted-protocol=shared-memory:admin-key=secret",))
    with serve(replicated, grpc_port=0, options=options) as server, SapiensClient(server.grpc_url) as client:
        results = [client.normal(image) for _ in range(3)]
    for result in results:
        np.testing.assert_array_equal(result.normals, stand_in_normals(image))
        assert (result.timing.shared_bytes, result.timing.attempts) == (0, 1)
    assert caplog.text.count("no shared memory with") == 1


def test_a_server_that_has_no_shared_memory_answers_all_the_same(image):
    with FakeServer() as server, SapiensClient(server.url) as client:
        assert client.depth(image).timing.shared_bytes == 0


def test_without_memory_arrays_travel(server, image, monkeypatch, tmp_path):
    monkeypatch.setattr("sapiens_client.shared_regions.FOLDER", tmp_path / "absent")
    with SapiensClient(server.grpc_url) as client:
        result = client.normal(image)
    np.testing.assert_array_equal(result.normals, stand_in_normals(image))
    assert result.timing.shared_bytes == 0


def test_more_memory_than_there_is_raises_no_more_than_an_oserror():
    before = files()
    with pytest.raises(OSError, match=r"."):
        Region.made(2**50)
    assert files() == before


def test_regions_of_the_living_are_no_orphans():
    region = Region.made(1)
    remove_orphans()
    assert region.name in files()
    region.remove()
    region.remove()
    assert region.name not in files()


def test_every_tensor_has_its_place():
    inputs = {"image": np.zeros(100, np.uint8), "bboxes": np.zeros((2, 4), np.float32)}
    places = sharing.layout(inputs, {"depth": 64})
    assert (places.inputs, places.outputs, places.num_bytes) == (
        {"image": 0, "bboxes": 128},
        {"depth": (192, 64)},
        256,
    )
