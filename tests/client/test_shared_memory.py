"""Large arrays through shared memory: the same results, and nothing left behind."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from real_servers import running
from regions_seen import eventually, exists, known_to, stand_in_normals

from sapiens_client import (
    AsyncSapiensClient,
    ClientOptions,
    SapiensClient,
)
from sapiens_client.shared.regions import FOLDER, PREFIX, Region, is_orphan, remove_orphans
from sapiens_client.wire.layout import layout
from sapiens_server import RunningServer

PLAIN = ClientOptions(shared_memory=False)


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
    for _ in range(3):
        client.normal(image)
    (name,) = known_to(server)
    mode = (FOLDER / name).stat().st_mode
    assert (stat.S_IMODE(mode), len(name.removeprefix(PREFIX))) == (0o600, 32)


def test_a_larger_image_takes_the_place_of_a_smaller_one(server, client, image):
    client.normal(image)
    (small,) = known_to(server)
    client.normal(np.tile(image, (2, 2, 1)))
    assert not exists(small)
    client.normal(image)
    eventually(lambda: len(known_to(server)) == 1)
    assert small not in known_to(server)


def test_calls_at_a_time_have_regions_of_their_own(server, client, image):
    images = [np.roll(image, shift, axis=0) for shift in range(24)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(client.normal, images))
    for each, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result.normals, stand_in_normals(each))
        assert result.timing.shared_bytes > 0
    assert 1 <= len(known_to(server)) <= 4


@pytest.mark.usefixtures("patient")
def test_closing_leaves_nothing(server, image):
    with SapiensClient(server.grpc_url) as client:
        client.normal(image)
        (name,) = known_to(server)
    assert not exists(name)
    assert not known_to(server)


@pytest.mark.usefixtures("patient")
def test_the_async_client_shares_and_leaves_nothing(server, image):
    async def ask() -> set[str]:
        async with AsyncSapiensClient(server.grpc_url) as client:
            results = await asyncio.gather(*(client.normal(image) for _ in range(4)))
            for result in results:
                np.testing.assert_array_equal(result.normals, stand_in_normals(image))
                assert result.timing.shared_bytes > 0
            return known_to(server)

    names = asyncio.run(ask())
    assert names
    assert not any(map(exists, names))
    assert not known_to(server)


def test_without_memory_arrays_travel(server, image, monkeypatch, tmp_path):
    monkeypatch.setattr("sapiens_client.shared.regions.FOLDER", tmp_path / "absent")
    with SapiensClient(server.grpc_url) as client:
        result = client.normal(image)
    np.testing.assert_array_equal(result.normals, stand_in_normals(image))
    assert result.timing.shared_bytes == 0


def test_more_memory_than_there_is_raises_no_more_than_an_oserror():
    with pytest.raises(OSError, match=r"too many for \d+ free"):
        Region.made(2**50)


def test_regions_of_the_living_are_no_orphans():
    region = Region.made(1)
    time.sleep(1.1)
    remove_orphans()
    assert exists(region.name)
    region.remove()
    region.remove()
    assert not exists(region.name)


@pytest.mark.parametrize("name", ["other", f"{PREFIX}x/../../../etc/hosts", PREFIX, f"{PREFIX}{'g' * 32}"])
def test_what_is_no_name_of_ours_is_left_alone(name):
    assert not is_orphan(name)


def test_every_tensor_has_its_place():
    inputs = {"image": np.zeros(100, np.uint8), "bboxes": np.zeros((2, 4), np.float32)}
    places = layout(inputs, {"depth": 64})
    assert (places.inputs, places.outputs, places.num_bytes) == (
        {"image": 0, "bboxes": 128},
        {"depth": (192, 64)},
        256,
    )
