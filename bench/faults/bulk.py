"""The command line asks about many images; a server is killed, then the command, which is run again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from figures import Figure, at_least, at_most, exactly, told
from load import Load, Sizes
from servers import JOURNAL_VARIABLE, NUM_SLOTS, WAIT_S, Fleet, is_listening, new_image, sum_of

from sapiens_client import SapiensClient

_IN_FLIGHT = 2 * 2 * NUM_SLOTS  # as many wait at the two servers as are computed
_SAPIENS = (sys.executable, "-c", "from sapiens_client.cli.main import main; main()")
_OPTIONS = ("-o", "results", "--format", "npy", "--resume", "--concurrency", str(_IN_FLIGHT))
_COMMAND = (*_SAPIENS, "depth", "photos", *_OPTIONS)
_WARM_UP_S = 0.5
_RATE_SHARE = 0.2  # of the duration of a load
_PEAK_MEMORY = re.compile(r"VmHWM:\s*(\d+) kB")


Event = Callable[[subprocess.Popen[str]], None]


@dataclass(frozen=True)
class _Run:
    """One run of the command.

    Attributes:
        started_s: When, on the clock of `time.monotonic`, as all moments here.
        events_s: When what happened to it did.
        status: Its exit status; negative: the signal that ended it.
        summary: The last line that it wrote on standard error.
        peak_bytes: The most memory that it had at once.
        saved: Names of the results that were there afterwards.
    """

    started_s: float
    events_s: tuple[float, ...]
    status: int
    summary: str
    peak_bytes: int
    saved: frozenset[str]


@dataclass(frozen=True)
class _Computed:
    """What the model did: when it had an answer about which image, and that again and again."""

    moments_s: tuple[float, ...]
    numbers: tuple[int, ...]


def bulk(sizes: Sizes) -> list[Figure]:
    """Kill a server after 3 of 10 images, the command after 6 of 10, and let `--resume` do the rest."""
    with tempfile.TemporaryDirectory() as name, Fleet() as fleet:
        folder = Path(name)
        sums = _written(folder / "photos", sizes.num_images)
        os.environ[JOURNAL_VARIABLE] = str(folder / "journal")
        try:
            one, other = fleet.start(), fleet.start()
        finally:
            del os.environ[JOURNAL_VARIABLE]
        urls = f"{one.grpc_url},{other.grpc_url}"
        rates = [_images_per_s(urls, sizes.seconds * _RATE_SHARE)]
        (folder / "journal").write_text("")  # of what follows only
        command = (*_COMMAND, "--url", urls)
        kills = {
            sizes.num_images * 3 // 10: lambda _: fleet.kill(one),
            sizes.num_images * 6 // 10: lambda job: job.kill(),
        }
        runs = [_run(command, folder, kills), _run(command, folder, {})]
        computed = _computed(folder / "journal")
        rates.append(_images_per_s(urls, sizes.seconds * _RATE_SHARE))
        return [
            exactly("the killed server's port is open", is_listening(one), False),
            exactly("exit status of the runs", [run.status for run in runs], [-signal.SIGKILL, 0]),
            *_results(folder / "results", sums, runs),
            *_done_twice(computed, runs[0].saved),
            at_least("throughput of the fleet's", _share(computed, runs, rates, kills), 0.95, "x"),
            at_most("memory of the command", max(run.peak_bytes for run in runs) / 1e9, 0.5, "GB"),
        ]


def _written(photos: Path, num_images: int) -> dict[str, list[int]]:
    """Write images, and return number and sum of each by the name of its result."""
    photos.mkdir()
    told_by_result = {}
    for number in range(1, num_images + 1):
        image = new_image(number)
        (photos / f"{number:04}.jpg").write_bytes(image)
        told_by_result[f"{number:04}.jpg_depth.npy"] = [number, sum_of(image)]
    return told_by_result


def _images_per_s(urls: str, seconds: float) -> float:
    """Return what the servers at these addresses do for as many callers as the command has."""
    with SapiensClient(urls) as client, Load(client, _IN_FLIGHT) as load:
        load.until(_WARM_UP_S + seconds)
        ended = [call for call in load.calls if call.ended_s >= _WARM_UP_S]
    return len(ended) / seconds


def _run(command: Sequence[str], folder: Path, events: Mapping[int, Event]) -> _Run:
    """Run the command, and let events happen once it has printed so many results."""
    started_s = time.monotonic()
    words = folder / "words"
    with (
        words.open("w") as stderr,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True) as job,
    ):
        try:
            events_s, peak_bytes = _watched(job, events)
        except BaseException:
            job.kill()
            raise
    saved = frozenset(path.name for path in (folder / "results").glob("*.npy"))
    summary = (words.read_text().splitlines() or [""])[-1]
    return _Run(started_s, tuple(events_s), job.returncode, summary, peak_bytes, saved)


def _watched(job: subprocess.Popen[str], events: Mapping[int, Event]) -> tuple[list[float], int]:
    """Let events happen until a command ends; return when they did, and the most memory that it had."""
    events_s, peak_bytes = [], 0
    for num_results, _ in enumerate(job.stdout, 1):
        peak_bytes = max(peak_bytes, _peak_bytes(job.pid))
        if num_results in events:
            events_s.append(time.monotonic())
            events[num_results](job)
    return events_s, peak_bytes


def _peak_bytes(pid: int) -> int:
    found = _PEAK_MEMORY.search(Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0  # none: it has just ended


def _computed(journal: Path) -> _Computed:
    lines = [line.split() for line in journal.read_text().splitlines()]
    return _Computed(tuple(float(line[0]) for line in lines), tuple(int(line[1]) for line in lines))


def _results(folder: Path, sums: Mapping[str, list[int]], runs: Sequence[_Run]) -> list[Figure]:
    found = {path.name for path in folder.iterdir()}
    right = [name for name in found & sums.keys() if np.load(folder / name)[0, 1:3].tolist() == sums[name]]
    others = found - sums.keys()
    num_skipped = len(runs[0].saved)
    summary = f"{len(sums) - num_skipped} done, {num_skipped} skipped, 0 failed"
    return [
        exactly("the second run says", runs[1].summary, summary),
        exactly("results that belong to their images", len(right), len(sums)),
        exactly("other files beside them", len(others), 0),
    ]


def _done_twice(computed: _Computed, saved_at_first: Collection[str]) -> list[Figure]:
    """Tell apart what was computed again because of the server, and because of the command."""
    again = {number: times - 1 for number, times in Counter(computed.numbers).items()}
    names = {number: f"{number:04}.jpg_depth.npy" for number in again}
    by_server = sum(times for number, times in again.items() if names[number] in saved_at_first)
    return [
        told("images computed", len(computed.numbers)),
        at_most("computed again after the server was killed", by_server, _IN_FLIGHT),
        at_most("computed again after the command was killed", sum(again.values()) - by_server, _IN_FLIGHT),
    ]


def _share(
    computed: _Computed, runs: Sequence[_Run], rates: Sequence[float], events: Mapping[int, object]
) -> float:
    """Return how long the fleet needs for so many images over how long it took, starts of Python apart."""
    num_before = min(events)
    num_after = len(runs[1].saved) - num_before
    fleet_s = num_before / rates[0] + num_after / rates[1]
    first_s, second_s = (
        min(moment for moment in computed.moments_s if moment > run.started_s + WAIT_S) - WAIT_S
        for run in runs
    )
    job_killed_s = runs[0].events_s[1]
    return fleet_s / (job_killed_s - first_s + max(computed.moments_s) - second_s)
