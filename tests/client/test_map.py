from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sapiens_client import (
    DepthResult,
    InvalidInputError,
    ModelNotServedError,
    RequestTimeoutError,
    SapiensClient,
    SegmentationResult,
    ServerUnavailableError,
)
from sapiens_client.bulk.tasks import task_items_async
from sapiens_client.tasks.table import AnalysisTask


@pytest.fixture
def images():
    return [np.full((3, 4 + number, 3), number, np.uint8) for number in range(12)]


def test_results_belong_to_their_images(client, images):
    items = list(client.map("seg", images, concurrency=4))
    for image, item in zip(images, items, strict=True):
        assert isinstance(item.result, SegmentationResult)
        np.testing.assert_array_equal(item.result.class_map, image[:, :, 0])


@pytest.mark.parametrize("task", ["depth", AnalysisTask.PEOPLE, "detect", "features", "normal"])
def test_every_task_maps(client, images, task):
    (item,) = client.map(task, images[-1:], timeout_s=30, on_error="yield")
    assert item.error is None


def test_paths_stay_in_items(client, photo, encode, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(photo))
    (item,) = client.map("depth", [path])
    assert (item.image, item.result.image_hw) == (path, (120, 90))


def test_an_unreadable_image_stands_in_its_item(client, images, failing_image):
    mixed = [images[0], "missing.jpg", failing_image, images[1]]
    items = list(client.map("depth", mixed, on_error="yield"))
    assert [isinstance(item.answer, DepthResult) for item in items] == [True, False, False, True]
    assert "missing.jpg" in str(items[1].error)


def test_options_reach_the_call(client, images, slow_image):
    with pytest.raises(RequestTimeoutError):
        next(client.map("depth", [slow_image], timeout_s=0.2))
    with pytest.raises(ModelNotServedError, match="depth_2b"):
        next(client.map("depth", images, model="depth_2b"))


def test_without_a_server_the_first_item_says_so(dead_url, images):
    with SapiensClient(dead_url) as client, pytest.raises(ServerUnavailableError):
        next(client.map("depth", images))


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("dept", {}, "got .'dept'"),
        ("depth", {"concurrency": 0}, "got 0"),
        ("people", {"model": "people_2b"}, "got 'people_2b'"),
        ("depth", {"model": 3}, "must be the name of an ensemble"),
        (None, {}, "tasks must be some of"),
        (["depth"], {}, "tasks must be some of"),
    ],
)
def test_wrong_options_are_refused_at_once(client, task, options, words):
    with pytest.raises(InvalidInputError, match=words):
        client.map(task, [], **options)


def test_an_unknown_option_is_refused_with_those_that_there_are(client):
    with pytest.raises(InvalidInputError, match=r"some of concurrency, .*got 'concurency'; perhaps 'concurr"):
        client.map("depth", [], concurency=3)


def test_closing_leaves_nothing_running_once_the_client_is_closed(url, slow_image):
    with SapiensClient(url) as client:
        items = client.map("depth", [slow_image[:, :1], *[slow_image] * 5], concurrency=3)
        next(items)
        items.close()
    for thread in threading.enumerate():
        if thread.name.startswith("sapiens-"):
            thread.join(60)
            assert not thread.is_alive()


PROGRAM = """
import os, signal, sys
import numpy as np
from sapiens_client import SapiensClient
def images():
    yield np.zeros((1, 1, 3), np.uint8)
    while True:
        yield np.zeros((1, 2, 3), np.uint8)  # slow
items = SapiensClient(sys.argv[1]).map("depth", images(), concurrency=2)
next(items)
os.kill(os.getpid(), signal.SIGINT)
next(items)
"""


def test_ctrl_c_ends_a_program_that_did_not_close_its_client(url):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, url], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (-2, "KeyboardInterrupt"), done.stderr


def test_the_bar_stays_away_where_there_is_no_terminal(client, images, capsys):
    assert len(list(client.map("depth", images, progress=True))) == len(images)
    assert capsys.readouterr() == ("", "")


def test_asynchronous_clients_map_as_well(images):
    class Client:
        async def depth(self, image):
            await asyncio.sleep(0)
            return image.shape

    async def run(**options):
        return [item.result async for item in task_items_async(Client(), "depth", images, **options)]

    expected = [image.shape for image in images]
    assert asyncio.run(run()) == asyncio.run(run(progress=True, concurrency=2)) == expected


ONE_IMAGE = {
    "str": "photo.jpg",
    "bytes": b"bytes",
    "bytearray": bytearray(b"bytes"),
    "path": Path("photo.jpg"),
    "array": np.zeros((4, 5, 3), np.uint8),
    "grey": np.zeros((4, 5), np.uint8),
    "PIL": Image.new("RGB", (3, 3)),
    "file": io.BytesIO(b"bytes"),
    "None": None,
    "number": 3,
    "mapping": {"photo.jpg": 1},
}


@pytest.mark.parametrize("images", ONE_IMAGE.values(), ids=ONE_IMAGE.keys())
def test_a_single_image_is_not_taken_for_many(client, images):
    with pytest.raises(InvalidInputError, match=r"must be several, got .*; pass a list"):
        client.map("depth", images)
