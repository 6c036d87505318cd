"""What `map` takes beside tasks and images."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from sapiens_client import AsyncSapiensClient, InvalidInputError, SapiensClient
from sapiens_client.testing import FakeServer

BOXES = [[[0, 0, 20, 30]], None, [[5, 5, 30, 40], [1, 1, 40, 50]], []]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def client(server) -> Iterator[SapiensClient]:
    with SapiensClient(server.url) as client:
        yield client


@pytest.fixture
def images():
    return [np.full((60, 50 + number, 3), number, np.uint8) for number in range(4)]


async def as_they_come(values):
    for value in values:
        yield value


def checked(poses):
    assert [len(pose) for pose in poses] == [1, 1, 2, 0]
    np.testing.assert_array_equal(poses[1].bboxes, [[0, 0, 51, 60]])
    np.testing.assert_array_equal(poses[2].bboxes, BOXES[2])


def test_pose_takes_the_boxes_of_every_image(client, images):
    checked([item.result for item in client.map("pose", images, bboxes=BOXES, concurrency=2)])
    checked([item.result for item in client.map("pose", iter(images), bboxes=iter(BOXES))])


def test_images_with_boxes_keep_their_paths(client, photo, encode, tmp_path):
    (tmp_path / "a.png").write_bytes(encode(photo))
    (item,) = client.map("pose", [tmp_path / "a.png"], bboxes=[BOXES[2]])
    assert (item.image, len(item.result)) == (tmp_path / "a.png", 2)


@pytest.mark.parametrize(("num_boxes", "word"), [(3, "fewer"), (5, "more")])
def test_there_are_boxes_for_every_image(client, images, num_boxes, word):
    boxes = (BOXES + BOXES)[:num_boxes]
    with pytest.raises(InvalidInputError, match=f"bboxes must be as many as images, got {word}"):
        list(client.map("pose", images, bboxes=boxes))


def test_generators_of_images_and_boxes_are_closed_when_one_stops(client, images):
    closed = []

    def endless(value):
        try:
            while True:
                yield value
        finally:
            closed.append(value is None)

    items = client.map("pose", endless(images[0]), bboxes=endless(None))
    next(items)
    items.close()
    assert sorted(closed) == [False, True]


def test_analyze_is_mapped_with_its_tasks(client, server, images):
    items = list(client.map("analyze", images[:2], tasks=("depth", "detect"), headers={"x-trace": "1f"}))
    assert [[*item.result] for item in items] == [["depth", "detect"]] * 2
    assert {request.metadata.get("x-trace") for request in server.requests} == {"1f"}


def test_functions_are_mapped(client, images):
    def crops(image):
        return len(client.pose(image, client.detect(image)))

    assert [item.result for item in client.map(crops, images, concurrency=2)] == [1] * 4
    items = list(
        client.map(lambda path: client.depth(path), ["missing.jpg"], on_error="yield", progress=True)
    )
    assert "missing.jpg" in str(items[0].error)


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("depth", {"bboxes": [None]}, "bboxes must be None for 'depth'"),
        ("pose", {"tasks": ["depth"]}, "tasks must be None for 'pose'"),
        ("analyze", {"model": "depth_2b"}, "model must be None for 'analyze'"),
        (len, {"model": "depth_2b"}, "model must be left to the function"),
        (len, {"timeout_s": 3}, "timeout_s must be left to the function"),
        ("pose", {"boxes": []}, "got 'boxes'; perhaps 'bboxes'"),
        ("pose", {"bboxes": as_they_come([])}, "must not be asynchronous"),
    ],
)
def test_options_of_others_are_refused(client, images, task, options, words):
    with pytest.raises(InvalidInputError, match=words):
        client.map(task, images, **options)


def test_clients_of_event_loops_map_the_same(server, images):
    async def ask():
        async with AsyncSapiensClient(server.url) as client:
            for boxes in (BOXES, as_they_come(BOXES)):
                items = client.map("pose", as_they_come(images), bboxes=boxes)
                checked([item.result async for item in items])
            with pytest.raises(InvalidInputError, match="got fewer"):
                _ = [item async for item in client.map("pose", images, bboxes=BOXES[:1])]
            with pytest.raises(InvalidInputError, match="got more"):
                _ = [item async for item in client.map("pose", images[:1], bboxes=BOXES)]

            async def crops(image):
                return len(await client.pose(image, await client.detect(image)))

            assert [item.result async for item in client.map(crops, images)] == [1] * 4
            assert [len(item.result) async for item in client.map("analyze", images, tasks="depth")] == [
                1
            ] * 4

    asyncio.run(ask())
