"""Closed-loop load, and what it cost according to the kernel's counters."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One round of load.

    Attributes:
        latency_ms: Median time of a call.
        per_second: Calls per second over the round.
        cpu_ms: CPU time per call, caller and server together.
        page_faults: Minor page faults per call, likewise.
        caller_page_faults: The caller's of these.
    """

    latency_ms: float
    per_second: float
    cpu_ms: float
    page_faults: float
    caller_page_faults: float


@dataclass(frozen=True)
class Usage:
    """Counters of a set of processes since they started."""

    cpu_s: float
    page_faults: int

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(self.cpu_s - earlier.cpu_s, self.page_faults - earlier.page_faults)


def usage(pids: Iterable[int]) -> Usage:
    """Read CPU time (nanosecond counters; elsewhere, of the threads that live) and minor page faults."""
    cpu_ns, faults = 0, 0
    for pid in pids:
        cpu_ns += time.process_time_ns() if pid == os.getpid() else _cpu_ns_of_others(pid)
        faults += int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[7])
    return Usage(cpu_ns * 1e-9, faults)


def _cpu_ns_of_others(pid: int) -> int:
    cpu_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            cpu_ns += int((thread / "schedstat").read_text().split()[0])
    return cpu_ns


def process_tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid] + [
        descendant
        for path in children
        for child in path.read_text().split()
        for descendant in process_tree(int(child))
    ]


def load(calls: Sequence[Callable[[], object]], num_calls: int, pids: Sequence[int]) -> Sample:
    """Share `num_calls` among one thread per entry of `calls`, each calling again once it has its answer.

    Raises what a call raises: a round with failures measures nothing.
    """
    latencies: list[float] = []
    tickets = itertools.count()

    def work(call: Callable[[], object]) -> None:
        while next(tickets) < num_calls:
            started = time.perf_counter()
            call()
            latencies.append(time.perf_counter() - started)

    with ThreadPoolExecutor(len(calls)) as threads:
        before, own_before, started = usage(pids), usage([os.getpid()]), time.perf_counter()
        for worker in [threads.submit(work, call) for call in calls]:
            worker.result()
        elapsed_s, spent = time.perf_counter() - started, usage(pids) - before
        own = usage([os.getpid()]) - own_before
    return Sample(
        latency_ms=float(np.median(latencies)) * 1e3,
        per_second=num_calls / elapsed_s,
        cpu_ms=spent.cpu_s * 1e3 / num_calls,
        page_faults=spent.page_faults / num_calls,
        caller_page_faults=own.page_faults / num_calls,
    )


def summary(samples: Sequence[Sample]) -> Sample:
    """Condense rounds so that a busy neighbour hardly shows.

    Latency is the lower quartile and throughput the upper quartile of the rounds; the counters are medians.
    """
    return Sample(
        latency_ms=float(np.quantile([sample.latency_ms for sample in samples], 0.25)),
        per_second=float(np.quantile([sample.per_second for sample in samples], 0.75)),
        cpu_ms=float(np.median([sample.cpu_ms for sample in samples])),
        page_faults=float(np.median([sample.page_faults for sample in samples])),
        caller_page_faults=float(np.median([sample.caller_page_faults for sample in samples])),
    )
