"""Ten thousand calls in a storm of faults: each ends in time, with its own result or an error of the tree."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path

import grpc
import numpy as np
import pytest

from sapiens_client import AsyncSapiensClient, Result, SapiensClient, SapiensError
from sapiens_client.testing import FakeServer, Fault

NUM_CALLS = 10_000
NUM_THREADS, NUM_TASKS = 8, 25
TASKS = ("depth", "pose", "features", "detect", "people")
TIMEOUTS_S = (0.1, 0.3, 1.0)
TOO_LONG_S = 300.0  # for all calls together, and for closing the clients
SLACK_S = 20.0  # beyond its deadline a call hangs; a busy machine may be slow
PAUSE_S = 0.05
SOME = 10  # threads and descriptors that gRPC may keep for later
STATUSES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
# What only the call itself can have met: all else may have been answered by another try.
NEVER_SENT_AGAIN = {
    *("UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED"),
    *("FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "DATA_LOSS", "UNAUTHENTICATED"),
}


@dataclass
class Log:
    """What came of the calls.

    Attributes:
        under_way: When those that have not ended must have, on the clock of `time.monotonic`.
        codes: The statuses that they ended with; "OK": with a result.
        wrong: What must not be.
    """

    under_way: dict[object, float] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)  # threads that count would lose some
    wrong: list[object] = field(default_factory=list)

    @contextmanager
    def call(self, timeout_s: float) -> Iterator[None]:
        """Watch a call, and note its error."""
        key = object()
        self.under_way[key] = time.monotonic() + timeout_s + SLACK_S
        try:
            yield
            self.codes.append("OK")
        except SapiensError as error:
            self.codes.append(error.__cause__.code)
            if not error.url:
                self.wrong.append(error)
        except BaseException as error:
            self.wrong.append(error)
            raise
        finally:
            del self.under_way[key]

    def is_hanging(self) -> bool:
        return any(end_s < time.monotonic() for end_s in list(self.under_way.values()))


def strike(server: FakeServer, rng: random.Random, statuses: Iterator[grpc.StatusCode]) -> None:
    """Let something bad happen to a server, most often for a moment."""
    times = rng.randint(1, 5)
    match rng.randrange(9):
        case 0 | 1 | 2:
            server.fail(next(statuses), times=times, after_s=rng.choice([0, 0.02]))
        case 3:
            server.fail(rng.choice(list(Fault)), times=times, after_s=rng.choice([0, 0.02]))
        case 4:
            server.fail(rng.choice(STATUSES), times=times, method=rng.choice(["ModelConfig", "ServerReady"]))
        case 5:
            server.latency_s = 2 * rng.choice(TIMEOUTS_S)
        case 6:
            server.hang(*rng.choice([(), ("ModelInfer",)]))
        case 7:
            server.drain()
        case 8:
            rng.choice([server.cut, server.stop])()
    time.sleep(PAUSE_S)


def restart(server: FakeServer) -> None:
    """Start a server again; while it was away a connection to elsewhere may have got its port."""
    while True:
        try:
            return server.start()
        except RuntimeError:
            time.sleep(PAUSE_S)


@contextmanager
def storm(servers: list[FakeServer]) -> Iterator[None]:
    """Let things happen to one server after another, and calm down at the end."""
    is_over, rng, statuses = threading.Event(), random.Random(0), cycle(STATUSES)

    def blow() -> None:
        while not is_over.is_set():
            server = rng.choice(servers)
            strike(server, rng, statuses)
            server.recover() if rng.random() < 0.5 else server.release()
            restart(server)

    thread = threading.Thread(target=blow)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@dataclass(frozen=True)
class Caller:
    """Calls at random, and knows what the results should be.

    Attributes:
        urls: Where the servers are.
        expected: The arrays of results by task and bytes of an image file.
        log: What comes of the calls.
    """

    urls: list[str]
    expected: dict[tuple[str, bytes], dict[str, np.ndarray]]
    log: Log

    def from_threads(self, num_calls: int) -> None:
        def call(rng: random.Random) -> None:
            for _ in range(num_calls // NUM_THREADS):
                (task, image), timeout_s = rng.choice(list(self.expected)), rng.choice(TIMEOUTS_S)
                with self.log.call(timeout_s):
                    self._check(task, image, getattr(client, task)(image, timeout_s=timeout_s))

        with SapiensClient(self.urls) as client:
            run([partial(call, random.Random(seed)) for seed in range(NUM_THREADS)])

    def from_a_loop(self, num_calls: int) -> None:
        async def call(client: AsyncSapiensClient, rng: random.Random) -> None:
            for _ in range(num_calls // NUM_TASKS):
                (task, image), timeout_s = rng.choice(list(self.expected)), rng.choice(TIMEOUTS_S)
                with self.log.call(timeout_s):
                    self._check(task, image, await getattr(client, task)(image, timeout_s=timeout_s))

        async def call_at_once() -> None:
            async with AsyncSapiensClient(self.urls) as client:
                await asyncio.gather(*(call(client, random.Random(seed)) for seed in range(NUM_TASKS)))

        asyncio.run(call_at_once())

    def _check(self, task: str, image: bytes, result: Result) -> None:
        arrays, expected = result.arrays(), self.expected[task, image]
        if any(not np.array_equal(arrays[name], array) for name, array in expected.items()):
            self.log.wrong.append(result)


def run(functions: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def fail_with_stacks(log: Log, path: Path) -> None:
    with path.open("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        pytest.fail(f"{len(log.under_way)} calls go on beyond their deadline:\n{file.read()}")


def call_in_a_storm(num_calls: int, images: list[bytes], path: Path) -> Log:
    """Make half of the calls from threads, half from an event loop."""
    with FakeServer() as one, FakeServer() as other:
        with SapiensClient(one.url) as client:
            results = {(task, image): getattr(client, task)(image) for task in TASKS for image in images}
        expected = {about: dict(result.arrays()) for about, result in results.items()}
        caller = Caller([one.url, other.url], expected, Log({"all": time.monotonic() + TOO_LONG_S}))
        with storm([one, other]):
            halves = [caller.from_threads, caller.from_a_loop]
            main = threading.Thread(
                target=run, args=([partial(half, num_calls // 2) for half in halves],), daemon=True
            )
            main.start()
            while main.is_alive():
                if caller.log.is_hanging():
                    fail_with_stacks(caller.log, path)
                main.join(PAUSE_S)
    return caller.log


def eventually(claim: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 60
    while not claim() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return claim()


def num_open() -> tuple[int, ...]:
    """Return the numbers of threads and descriptors of this process."""
    gc.collect()
    return tuple(len(list(Path("/proc/self", each).iterdir())) for each in ("task", "fd"))


@pytest.mark.slow
def test_ten_thousand_calls_in_a_storm_end_in_time(photo, encode, tmp_path):
    images = [encode(photo[:12, column : column + 9]) for column in (0, 30, 60)]
    call_in_a_storm(200, images, tmp_path / "stacks")
    before = num_open()
    log = call_in_a_storm(NUM_CALLS, images, tmp_path / "stacks")
    assert log.wrong == []
    assert len(log.codes) == NUM_CALLS
    assert log.codes.count("OK") > NUM_CALLS / 2
    assert set(log.codes) >= NEVER_SENT_AGAIN
    assert eventually(lambda: "sapiens-client" not in {thread.name for thread in threading.enumerate()})
    assert all(now <= then + SOME for now, then in zip(num_open(), before, strict=True))
