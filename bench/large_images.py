"""Whether a server's memory goes back to its level after large images.

Three callers ask for normals and depth of images of 24 megapixels, whose answers have 288 and 96 MB and
travel in messages. Regions of shared memory are left out: Triton's grow to the largest request and never
shrink, `sapiens serve` tells at its start how much that can be.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from faults.figures import Figure, at_most, told
from measure import process_tree

from sapiens_client import ClientOptions, SapiensClient
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_export.exporter import export_engine
from sapiens_export.networks.config import NetworkConfig
from sapiens_export.weights.sources import source_from_seed
from sapiens_server import RunningServer, serve

LARGE_HW, SMALL_HW = (4000, 6000), (512, 512)
NUM_CALLERS = 3
NETWORK_HW = (64, 48)
MAX_KEPT_MB = 450.0  # by the server and its processes together, of which each keeps some for small images
TIMEOUT_S, SETTLE_S, SAMPLE_S = 120.0, 60.0, 0.1


def large_images(num_rounds: int) -> list[Figure]:
    """Serve small networks, send two large images a round, print memory before, meanwhile and afterwards."""
    with TemporaryDirectory() as folder, _served(Path(folder)) as server:
        options = ClientOptions(output="image", shared_memory=False)
        with SapiensClient(server.grpc_url, timeout_s=TIMEOUT_S, options=options) as client:
            _ask(client, SMALL_HW, num_rounds)
            before = private_mb(server.pid)
            with _Peak(server.pid) as peak:
                _ask(client, LARGE_HW, num_rounds)
            after = _settled_mb(server.pid, before)
    print("| large images | private memory of the server, MB |\n|---|---|")
    for name, value in (("before", before), ("peak", peak.mb), ("after", after)):
        print(f"| {name} | {value:.0f} |", flush=True)
    return [
        told("server's memory before large images", before, "MB"),
        told("server's memory with large images, peak", peak.mb, "MB"),
        at_most("server's memory kept after large images", after - before, MAX_KEPT_MB, "MB"),
    ]


def private_mb(server_pid: int) -> float:
    """Return the memory of a server and its processes without what they share."""
    num_pages = 0
    for pid in process_tree(server_pid):
        with suppress(FileNotFoundError):  # it has ended
            _, resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[:3]
            num_pages += int(resident) - int(shared)
    return num_pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class _Peak:
    """The highest memory during the `with` block, by samples.

    Attributes:
        mb: What it is so far.
    """

    def __init__(self, server_pid: int) -> None:
        self.mb = 0.0
        self._server_pid = server_pid
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._is_over.wait(SAMPLE_S):
            self.mb = max(self.mb, private_mb(self._server_pid))


@contextmanager
def _served(folder: Path) -> Iterator[RunningServer]:
    for task in (Task.DEPTH, Task.NORMAL):
        variant = first_recipe(task).variants[0]
        config = NetworkConfig(
            "sapiens", task, 32, 2, 2, variant.patch_padding, NETWORK_HW, 12, variant.num_outputs
        )
        export_engine(source_from_seed(config, 0), folder / "models")
    with serve(folder / "models", grpc_port=0) as server:
        yield server


def _ask(client: SapiensClient, hw: tuple[int, int], num_rounds: int) -> None:
    image = cv2.imencode(".jpg", np.full((*hw, 3), 128, np.uint8))[1].tobytes()
    calls = [client.normal, client.depth] * num_rounds
    with ThreadPoolExecutor(NUM_CALLERS) as threads:
        for answer in [threads.submit(call, image) for call in calls]:
            answer.result()


def _settled_mb(server_pid: int, before: float) -> float:
    """Return the memory once it is at its level, or what it has come to when that takes too long."""
    deadline = time.monotonic() + SETTLE_S
    while (now := private_mb(server_pid)) > before + MAX_KEPT_MB / 2 and time.monotonic() < deadline:
        time.sleep(SAMPLE_S)
    return now
