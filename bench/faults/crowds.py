"""One server that has little room, none for a while, or is restarted: everything is answered all the same."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from figures import Figure, at_least, exactly, told
from load import Load, Sizes
from servers import NUM_SLOTS, STAND_IN, Fleet, answering_server, new_image, port_of

from sapiens_client import SapiensClient
from sapiens_server import RunningServer

_QUEUE_SIZE, _CONCURRENCY = 64, 200
_CONCURRENCIES = (8, 16, 32, 64)  # of which the best is what the server can do
_IMAGE_BYTES = 3_000  # few, so that the client is faster than the server
_FULL_S = 5.0
_FEW_IMAGES = 40
_QUEUE = """
dynamic_batching {{ default_queue_policy {{ max_queue_size: {size} }} }}
"""


@dataclass(frozen=True)
class _Mapped:
    """What `map` did.

    Attributes:
        num_failed: Images without a right answer.
        num_sent: Requests for all of them.
        images_per_s: How fast it was.
    """

    num_failed: int
    num_sent: int
    images_per_s: float


def crowd(sizes: Sizes) -> list[Figure]:
    """Ask about many images, far more at a time than the server's queue takes."""
    with server_with_queue(_QUEUE_SIZE) as server:
        best = max(mapped(server, sizes.num_images, each).images_per_s for each in _CONCURRENCIES)
        crowded = mapped(server, sizes.num_images, _CONCURRENCY)
    return [
        exactly(f"failed images of {sizes.num_images}", crowded.num_failed, 0),
        at_least("throughput of the best concurrency's", crowded.images_per_s / best, 0.95, "x"),
        told("requests per image", crowded.num_sent / sizes.num_images, "x"),
    ]


def full(_: Sizes) -> list[Figure]:
    """Ask about some images while others keep the server busy and its queue full for 5 s."""
    with (
        server_with_queue(NUM_SLOTS) as server,
        ThreadPoolExecutor(2 * NUM_SLOTS) as threads,
        SapiensClient(server.grpc_url) as others,
    ):
        long = [threads.submit(others.depth, new_image(wait_s=_FULL_S)) for _ in range(NUM_SLOTS)]
        time.sleep(0.5)  # now they are worked on
        short = [threads.submit(others.depth, new_image()) for _ in range(NUM_SLOTS)]
        few = mapped(server, _FEW_IMAGES, _FEW_IMAGES)
        num_failed = sum(call.exception() is not None for call in (*long, *short))
    return [
        exactly(f"failed images of {_FEW_IMAGES}", few.num_failed, 0),
        exactly("failed calls of the others", num_failed, 0),
        told("requests per image", few.num_sent / _FEW_IMAGES, "x"),
    ]


def restart(sizes: Sizes) -> list[Figure]:
    """SIGKILL for the only server under load, which is started again."""
    with Fleet() as fleet:
        server = fleet.start()
        with SapiensClient(server.grpc_url) as client, Load(client, sizes.num_callers) as load:
            load.until(sizes.event_s)
            fleet.kill(server)
            killed_s = load.now_s()
            back = fleet.start(port=port_of(server))
            ready_s = load.now_s()
            load.until(max(sizes.seconds, ready_s + 2))
    return [
        told("the restart took", ready_s - killed_s, "s"),
        *load.figures(),
        told("first answer after it is ready again", load.first_answer_s(back.pid) - ready_s, "s"),
    ]


@contextmanager
def server_with_queue(size: int) -> Iterator[RunningServer]:
    """A server of the stand-in whose queue takes so many requests beside those that are worked on."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder, "models")
        shutil.copytree(STAND_IN, repository)
        with (repository / "depth" / "config.pbtxt").open("a") as config:
            config.write(_QUEUE.format(size=size))
        with Fleet(repository=repository) as fleet:
            yield fleet.start()


def mapped(server: RunningServer, num_images: int, concurrency: int) -> _Mapped:
    """Ask about images with a client of its own, and look at the answers."""
    images = {number: new_image(number, num_bytes=_IMAGE_BYTES) for number in range(_CONCURRENCY)}
    num_failed = num_sent = 0
    began_s = time.monotonic()
    with SapiensClient(server.grpc_url) as client:
        asked = (images[number % len(images)] for number in range(num_images))
        for item in client.map("depth", asked, concurrency=concurrency, on_error="yield"):
            if item.error is None:
                image = images[item.index % len(images)]
                num_failed += answering_server(image, item.result) != server.pid
                num_sent += item.result.timing.attempts
            else:
                num_failed += 1
                num_sent += item.error.attempts
    return _Mapped(num_failed, num_sent, num_images / (time.monotonic() - began_s))
