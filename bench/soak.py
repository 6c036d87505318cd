"""Whether a client that is used for long keeps growing: memory, file descriptors and threads of its process.

    python bench/soak.py [--minutes 5] [--callers 8] [--every 5]

Callers on threads share one client of a real server, whose stand-in for a network takes bodies of 300 KB and
2 ms. Most calls are answered, some of them through shared memory; some send what the server refuses, some run
into their deadline with shared memory that the server still has, some open a client of their own and close
it. The slope is by least squares over the samples after the first fifth of the calls. Then images of 24
megapixels go to a server with networks, see large_images.py. Exit status 1: a figure is missed. Ctrl-C ends
the calls early, with the report.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from faults.figures import Figure, at_least, at_most, exactly, told
from faults.servers import Fleet, answering_server, new_image
from large_images import large_images
from measure import process_tree

from sapiens_client import SapiensClient, SapiensError
from sapiens_client.shared.regions import FOLDER, PREFIX

if TYPE_CHECKING:
    from numpy.typing import NDArray

WAIT_S = 0.002
WARM_UP_SHARE = 0.2
SETTLE_S = 1.0  # gRPC closes connections on threads of its own
MAX_SETTLES = 10
# What every how many calls is something else, and how that ends.
SHARED_EVERY, INVALID_EVERY, TIMEOUT_EVERY, NEW_CLIENT_EVERY = 10, 20, 50, 200
LARGE_BYTES = 2_000_000  # for which a client takes shared memory
OUTCOMES = {
    "answer": "answered",
    "answer through shared memory": "answered",
    "answer by a new client": "answered",
    "invalid image": "InvalidInputError",
    "deadline": "RequestTimeoutError",
}
MAX_SLOPE_MB = 1.0


@dataclass(frozen=True)
class Sample:
    """The process at one moment.

    Attributes:
        num_calls: Calls made so far.
        memory_mb: Resident memory.
        server_mb: That of the server and its processes.
        num_files: Open file descriptors.
        num_threads: Threads, those of gRPC included.
    """

    num_calls: int
    memory_mb: float
    server_mb: float
    num_files: int
    num_threads: int

    def __str__(self) -> str:
        return (
            f"| {self.num_calls} | {self.memory_mb:.1f} | {self.server_mb:.1f} "
            f"| {self.num_files} | {self.num_threads} |"
        )


class Callers:
    """Threads that call again and again until the end of the `with` block."""

    def __init__(self, url: str, num_callers: int) -> None:
        self._url = url
        self._client = SapiensClient(url)
        self._turns = itertools.count()
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(num_callers)
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._work = [self._threads.submit(self._call, number) for number in range(num_callers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over.set()
        self._threads.shutdown()
        self._client.close()
        for each in self._work:
            each.result()

    @property
    def num_calls(self) -> int:
        """Calls made so far."""
        with self._lock:
            return self.outcomes.total()

    def _call(self, number: int) -> None:
        good, slow = new_image(number, wait_s=WAIT_S), new_image(number, wait_s=0.1, num_bytes=LARGE_BYTES)
        large = new_image(number, wait_s=WAIT_S, num_bytes=LARGE_BYTES)
        invalid = new_image(number, answer_hw=(0, 0))
        while not self._is_over.is_set():
            kind = kind_of(next(self._turns))
            outcome = "answered"
            try:
                if kind == "answer by a new client":
                    self._call_by_a_new_client(good)
                elif kind == "deadline":
                    self._client.depth(slow, timeout_s=0.05)
                elif kind == "answer through shared memory":
                    result = self._client.depth(large)
                    answering_server(large, result)
                    outcome = "answered" if result.timing.shared_bytes else "sent"
                else:
                    image = invalid if kind == "invalid image" else good
                    answering_server(image, self._client.depth(image))
            except (SapiensError, ValueError) as error:
                outcome = type(error).__name__
            with self._lock:
                self.outcomes[kind, outcome] += 1

    def _call_by_a_new_client(self, image: NDArray[np.uint8]) -> None:
        with SapiensClient(self._url) as client:
            answering_server(image, client.depth(image))


def kind_of(turn: int) -> str:
    """Return what kind of call it is the turn of."""
    if turn % NEW_CLIENT_EVERY == 1:
        return "answer by a new client"
    if turn % TIMEOUT_EVERY == 2:
        return "deadline"
    if turn % SHARED_EVERY == 4:
        return "answer through shared memory"
    return "invalid image" if turn % INVALID_EVERY == 3 else "answer"


def sample(num_calls: int, server_pid: int) -> Sample:
    """Look at this process and the server."""
    return Sample(
        num_calls,
        resident_mb([os.getpid()]),
        resident_mb(process_tree(server_pid)),
        len([*Path("/proc/self/fd").iterdir()]),
        len([*Path("/proc/self/task").iterdir()]),
    )


def resident_mb(pids: Iterable[int]) -> float:
    """Return the resident memory of processes."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def regions() -> set[str]:
    """Return the names of the regions of shared memory that clients have, other processes included."""
    return {path.name for path in FOLDER.glob(f"{PREFIX}*")}


def slope_mb(samples: Sequence[Sample], values: Sequence[float]) -> float:
    """Return the growth per 10,000 calls, by least squares over the samples after the warm-up."""
    calls = np.array([each.num_calls for each in samples], float)
    is_warm = calls >= WARM_UP_SHARE * calls[-1]
    return float(np.polyfit(calls[is_warm], np.array(values)[is_warm], 1)[0]) * 1e4


def soak(minutes: float, num_callers: int, every_s: float) -> list[Figure]:
    """Call for so long, print a sample every few seconds, and return what it comes to."""
    with Fleet() as fleet:
        server = fleet.start()
        with Callers(server.grpc_url, num_callers):
            time.sleep(SETTLE_S)  # gRPC opens some things once per process, and keeps them
        time.sleep(SETTLE_S)
        begin, samples, regions_before = sample(0, server.pid), [], regions()
        print("| calls | memory, MB | server, MB | files | threads |\n|---|---|---|---|---|")
        print(begin, flush=True)
        ends_s = time.monotonic() + minutes * 60
        with Callers(server.grpc_url, num_callers) as callers, suppress(KeyboardInterrupt):
            while time.monotonic() < ends_s:
                time.sleep(min(every_s, max(0.0, ends_s - time.monotonic())))
                samples.append(sample(callers.num_calls, server.pid))
                print(samples[-1], flush=True)
        for _ in range(MAX_SETTLES):
            time.sleep(SETTLE_S)
            end = sample(callers.num_calls, server.pid)
            if end.num_files <= begin.num_files and end.num_threads <= begin.num_threads:
                break
        num_left = len(regions() - regions_before)
        print(end, flush=True)
    unexpected = [
        Figure(f"{kind}: {outcome}", str(times))
        for (kind, outcome), times in callers.outcomes.items()
        if OUTCOMES[kind] != outcome
    ]
    return [
        *(
            at_least(f"calls: {kind}", callers.outcomes[kind, outcome], 1)
            for kind, outcome in OUTCOMES.items()
        ),
        exactly("calls that ended otherwise", len(unexpected), 0),
        *unexpected,
        at_most(
            "memory per 10,000 calls",
            slope_mb(samples, [each.memory_mb for each in samples]),
            MAX_SLOPE_MB,
            "MB",
        ),
        told(
            "memory of the server per 10,000 calls",
            slope_mb(samples, [each.server_mb for each in samples]),
            "MB",
        ),
        told("open files in the beginning", begin.num_files),
        at_most("open files at the end", end.num_files, begin.num_files),
        told("threads in the beginning", begin.num_threads),
        at_most("threads at the end", end.num_threads, begin.num_threads),
        at_most("regions of shared memory left", num_left, 0),
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--every", type=float, default=5, help="seconds between samples")
    parser.add_argument("--large-rounds", type=int, default=4, help="of two large images, at the end")
    options = parser.parse_args()
    figures = [*soak(options.minutes, options.callers, options.every), *large_images(options.large_rounds)]
    print("\n| figure | required | measured | |\n|---|---|---|---|")
    for figure in figures:
        print(f"| {figure}")
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
