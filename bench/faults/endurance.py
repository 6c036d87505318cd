"""Two `sapiens serve` under light load for long, with a fault every minute: no call fails, nothing grows."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from figures import Figure, at_least, at_most, exactly, told
from load import Sizes
from servers import answering_server, children_of, new_image, processes_of_model
from supervised import PAUSE_S, SHARED_MEMORY, Command, commands, regions_of, seconds_until

from sapiens_client import SapiensClient, SapiensError

_CALLS_PER_S = 20.0
_SAMPLE_EVERY_S = 1.0
_HANG_S = 6.0
_MAX_GROWTH = 0.05
_MAX_MORE_FILES = 2
_PARTS = 5  # of the run, of which the second and the last are compared


def endurance(sizes: Sizes) -> list[Figure]:
    """One fault every `event_s`, in turn and at one server, then the other."""
    regions: set[str] = set()
    longest_s = 0.0
    with commands(2) as replicas:
        watched = {"the client": os.getpid()} | {
            f"sapiens serve {number}": each.process.pid for number, each in enumerate(replicas, 1)
        }
        client = SapiensClient([each.grpc_url for each in replicas])
        with client, _Callers(client, sizes.num_callers) as callers, _Samples(watched) as samples:
            num_faults = 0
            while callers.now_s() + sizes.event_s < sizes.seconds or num_faults < len(_FAULTS):
                callers.until((num_faults + 1) * sizes.event_s)
                replica = replicas[num_faults % len(replicas)]
                regions.add(regions_of(replica.server()))
                fault = _FAULTS[num_faults % len(_FAULTS)]
                began_s = callers.now_s()
                fault(replica)
                took_s = callers.now_s() - began_s
                longest_s = max(longest_s, took_s)
                memory_mb = _resident_mb(os.getpid())
                print(
                    f"{began_s:.0f} s: {fault.__name__[1:]}, {took_s:.1f} s; client: {memory_mb:.1f} MB",
                    file=sys.stderr,
                    flush=True,
                )
                num_faults += 1
            callers.until(max(sizes.seconds, callers.now_s() + sizes.event_s))
        for each in replicas:
            seconds_until(each.is_ready)
        regions -= {regions_of(each.server()) for each in replicas}
    left = [region for prefix in regions if prefix for region in SHARED_MEMORY.glob(f"{prefix}*")]
    return [
        told("faults", num_faults),
        told("ready again at the latest after", longest_s, "s"),
        *callers.figures(),
        *samples.figures(),
        exactly("regions that the ended servers left", len(left), 0),
    ]


def _kill_the_server(replica: Command) -> None:
    _ended_by(signal.SIGKILL, replica)


def _terminate_the_server(replica: Command) -> None:
    _ended_by(signal.SIGTERM, replica)


def _ended_by(number: signal.Signals, replica: Command) -> None:
    server = replica.server()
    processes = children_of(server)
    os.kill(server, number)
    _is_another(replica, server)
    seconds_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


def _kill_a_process(replica: Command) -> None:
    server = replica.server()
    os.kill(processes_of_model(server)[0], signal.SIGKILL)
    _is_another(replica, server)


def _pause_a_process(replica: Command) -> None:
    """It takes its server with it when it goes on."""
    server = replica.server()
    process = processes_of_model(server)[0]
    os.kill(process, signal.SIGSTOP)
    time.sleep(PAUSE_S)
    os.kill(process, signal.SIGCONT)
    _is_another(replica, server)


def _pause_the_server(replica: Command) -> None:
    server = replica.server()
    os.kill(server, signal.SIGSTOP)
    time.sleep(_HANG_S)
    os.kill(server, signal.SIGCONT)
    seconds_until(replica.is_ready)


def _is_another(replica: Command, server: int) -> None:
    seconds_until(lambda: replica.server() not in (0, server) and replica.is_ready())


_FAULTS: Sequence[Callable[[Command], None]] = (
    _kill_the_server,
    _pause_the_server,
    _kill_a_process,
    _terminate_the_server,
    _pause_a_process,
)


class _Callers:
    """Threads that together call at a steady rate during the `with` block; only totals are kept."""

    def __init__(self, client: SapiensClient, num_callers: int) -> None:
        self._client = client
        self._num_callers = num_callers
        self._is_over = threading.Event()
        self._threads = ThreadPoolExecutor(num_callers)
        self._began_s = time.monotonic()

    def __enter__(self) -> _Callers:
        self._work = [self._threads.submit(self._call, number) for number in range(self._num_callers)]
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()
        self._threads.shutdown()

    def now_s(self) -> float:
        """Return the seconds since they began."""
        return time.monotonic() - self._began_s

    def until(self, moment_s: float) -> None:
        """Wait until this many seconds after they began."""
        time.sleep(max(0.0, moment_s - self.now_s()))

    def figures(self) -> list[Figure]:
        """Return what became of the calls."""
        totals = [each.result() for each in self._work]
        failures = [failure for each in totals for failure in each.failures]
        return [
            told("calls", sum(each.num_calls for each in totals)),
            exactly("failed calls", len(failures), 0),
            at_least("calls sent more than once", sum(each.num_repeated for each in totals), 1),
            told("slowest call", max(each.slowest_s for each in totals), "s"),
            *(Figure("failure", failure) for failure in sorted(set(failures))),
        ]

    def _call(self, number: int) -> _Totals:
        image, totals = new_image(number), _Totals()
        period_s = self._num_callers / _CALLS_PER_S
        next_s = period_s * number / self._num_callers
        while not self._is_over.wait(max(0.0, next_s - self.now_s())):
            started_s = self.now_s()
            totals.num_calls += 1
            try:
                result = self._client.depth(image)
                answering_server(image, result)
                totals.num_repeated += result.timing.attempts > 1
            except (SapiensError, ValueError) as error:
                totals.failures.append(f"after {started_s:.0f} s: {type(error).__name__}: {error}")
            totals.slowest_s = max(totals.slowest_s, self.now_s() - started_s)
            next_s = max(next_s + period_s, self.now_s())
        return totals


@dataclass
class _Totals:
    """What one caller has seen."""

    num_calls: int = 0
    num_repeated: int = 0
    slowest_s: float = 0.0
    failures: list[str] = field(default_factory=list)


class _Samples:
    """Memory and open files of processes, looked at again and again during the `with` block.

    Args:
        watched: Process ids by what they are called in the report.
    """

    def __init__(self, watched: dict[str, int]) -> None:
        self._watched = watched
        self._seen: dict[str, list[tuple[float, int]]] = {name: [] for name in watched}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Samples:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()
        self._thread.join()

    def figures(self) -> list[Figure]:
        """Compare the medians of the second and the last fifth."""
        figures = []
        for name, seen in self._seen.items():
            size = len(seen) // _PARTS
            (first_mb, first_files), (last_mb, last_files) = (
                [statistics.median(column) for column in zip(*part, strict=True)]
                for part in (seen[size : 2 * size], seen[-size:])
            )
            figures += [
                told(f"memory of {name}", last_mb, "MB"),
                at_most(f"memory of {name} grew by", last_mb / first_mb - 1, _MAX_GROWTH, "x"),
                told(f"open files of {name}", last_files),
                at_most(f"open files of {name} grew by", last_files - first_files, _MAX_MORE_FILES),
            ]
        return figures

    def _look(self) -> None:
        while not self._is_over.wait(_SAMPLE_EVERY_S):
            for name, pid in self._watched.items():
                self._seen[name].append((_resident_mb(pid), len([*Path(f"/proc/{pid}/fd").iterdir()])))


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1e3
