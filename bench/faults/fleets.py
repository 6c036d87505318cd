"""Three `sapiens serve` are restarted in turn, under a steady load of 70 % of what they can do."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import tritonclient.grpc as triton
from balanced import answer, balancer
from figures import Figure, exactly, told
from load import Call, Sizes
from servers import NUM_SLOTS, answering_server, new_image, server_in
from supervised import DRAIN_S, Command, announced, seconds_until, started
from tritonclient.utils import InferenceServerException

from sapiens_client import SapiensClient, SapiensError

_NUM_REPLICAS = 3
_SHARE = 0.7
_WAIT_S = 0.4  # of the stand-in: large enough for this machine to be no part of the measurement
_CAPACITY = _NUM_REPLICAS * NUM_SLOTS / _WAIT_S  # calls per second
_NUM_THREADS = 64
_DEADLINE_S = 60.0

_Ask = Callable[[bytes], tuple[int, int]]  # image -> process id of the server that answered, attempts


def rolling_sdk(sizes: Sizes) -> list[Figure]:
    """The SDK knows all three."""
    with _Replicas() as replicas:
        return _rolled_with_sdk(replicas, [each.grpc_url for each in replicas.running], sizes)


def rolling_haproxy(sizes: Sizes) -> list[Figure]:
    """The SDK knows HAProxy, which loses calls when servers end their connections to it."""
    with _Replicas() as replicas, balancer("haproxy", replicas.running) as url:
        return _rolled_with_sdk(replicas, [url], sizes)


def _rolled_with_sdk(replicas: _Replicas, urls: Sequence[str], sizes: Sizes) -> list[Figure]:
    with SapiensClient(urls, timeout_s=_DEADLINE_S) as client:

        def ask(image: bytes) -> tuple[int, int]:
            result = client.depth(image)
            return answering_server(image, result), result.timing.attempts

        return _rolled(replicas, ask, sizes)


def rolling_envoy(sizes: Sizes) -> list[Figure]:
    """A client that never tries again knows Envoy."""
    with (
        _Replicas() as replicas,
        balancer("envoy", replicas.running) as url,
        triton.InferenceServerClient(url) as client,
    ):
        return _rolled(replicas, lambda image: (server_in(answer(client, image), image), 1), sizes)


def _rolled(replicas: _Replicas, ask: _Ask, sizes: Sizes) -> list[Figure]:
    with _Steady(ask, _SHARE * _CAPACITY) as load:
        time.sleep(sizes.event_s)
        load.until_answered_by(replicas)
        began_s = time.monotonic()
        for number in range(_NUM_REPLICAS):
            replicas.restart(number)
        took_s = time.monotonic() - began_s
        load.until_answered_by(replicas)
    calls = load.calls
    failures = [call.failure for call in calls if call.failure]
    return [
        told("offered", _SHARE * _CAPACITY, "calls/s"),
        told("calls", len(calls)),
        exactly("failed calls", len(failures), 0),
        told("calls sent more than once", sum(call.attempts > 1 for call in calls)),
        told("slowest call", max(call.duration_s for call in calls), "s"),
        told("the restarts took", took_s, "s"),
        exactly("exit statuses", replicas.exit_statuses, [0] * _NUM_REPLICAS),
        exactly("servers that answered, old and new", len({call.server for call in calls} - {None}), 6),
        *(Figure("failure", failure) for failure in sorted(set(failures))),
    ]


class _Replicas:
    """Three `sapiens serve`, ready when the `with` block begins."""

    def __init__(self) -> None:
        self.running: list[Command] = []
        self.exit_statuses: list[int] = []
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(_NUM_REPLICAS):
                self._processes.append(started("--drain-seconds", str(DRAIN_S)))
            self.running = [announced(process) for process in self._processes]
            for each in self.running:
                seconds_until(each.is_ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGINT)
        for process in self._processes:
            process.communicate()

    def restart(self, number: int) -> None:
        """End one, start it again at the same addresses, and wait until it is ready."""
        old = self.running[number]
        old.process.terminate()
        seconds_until(lambda: old.process.poll() is not None)
        self.exit_statuses.append(old.process.returncode)
        old.process.communicate()
        ports = tuple(url.rpartition(":")[2] for url in (old.grpc_url, old.health_url))
        self._processes[number] = started("--drain-seconds", str(DRAIN_S), ports=(ports[0], ports[1]))
        self.running[number] = announced(self._processes[number])
        seconds_until(self.running[number].is_ready)


class _Steady:
    """Asks so often per second during the `with` block, whatever becomes of the calls before."""

    def __init__(self, ask: _Ask, rate: float) -> None:
        self.calls: list[Call] = []
        self._ask = ask
        self._rate = rate
        self._is_over = threading.Event()
        self._threads = ThreadPoolExecutor(_NUM_THREADS)
        self._pacer = threading.Thread(target=self._pace)

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        self._pacer.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()
        self._pacer.join()
        self._threads.shutdown()

    def until_answered_by(self, replicas: _Replicas) -> None:
        """Wait until each of the servers that run now has answered a call."""
        servers = {each.server() for each in replicas.running}
        seconds_until(lambda: servers <= {call.server for call in [*self.calls]})

    def _pace(self) -> None:
        images = [new_image(number, wait_s=_WAIT_S) for number in range(_NUM_THREADS)]
        number = 0
        while not self._is_over.wait(max(0.0, self._began_s + number / self._rate - time.monotonic())):
            self._threads.submit(self._call, images[number % len(images)])
            number += 1

    def _call(self, image: bytes) -> None:
        started_s = time.monotonic() - self._began_s
        server, attempts, failure = None, 1, ""
        try:
            server, attempts = self._ask(image)
        except (SapiensError, InferenceServerException, ValueError) as error:
            failure = f"{type(error).__name__}: {error}"
        self.calls.append(Call(started_s, time.monotonic() - self._began_s, server, attempts, failure))
