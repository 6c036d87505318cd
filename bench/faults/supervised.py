"""`sapiens serve` mends its server under load, and drains it behind a balancer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import tritonclient.grpc as triton
from figures import Figure, at_most, exactly, told
from load import Load, Sizes
from servers import STAND_IN, children_of, new_image, processes_of_model
from tritonclient.utils import InferenceServerException

from sapiens_client import SapiensClient

_COMMAND = "from sapiens_client.cli.main import main; main()"
_ADDRESSES = re.compile(r"serving at ([\d.:]+), health ([\d.:]+): ")
_PROBE_EVERY_S = 0.25
_POLL_S = 0.05
DRAIN_S = 20.0
PAUSE_S = 3.0
_PATIENCE_S = 300.0
_LAST_LINES = 40
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Command:
    """One `sapiens serve`.

    Attributes:
        process: The command.
        grpc_url: Where clients call its server.
        health_url: Where it tells how it is.
    """

    process: subprocess.Popen[str]
    grpc_url: str
    health_url: str

    def server(self) -> int:
        """Return the process id of its tritonserver; 0: there is none now."""
        return next((pid for pid in children_of(self.process.pid) if regions_of(pid)), 0)

    def is_ready(self) -> bool:
        """Return what it says."""
        try:
            urllib.request.urlopen(f"http://{self.health_url}/ready", timeout=5).close()
        except (OSError, urllib.error.HTTPError):
            return False
        return True


def mend(sizes: Sizes) -> list[Figure]:
    """SIGKILL for one of the model's processes, then for the other server itself; then a process is paused.

    A process of a model that goes on after a pause of more than a second takes its server (2.51) with it.
    """
    with commands(2) as (one, other):
        client = SapiensClient([one.grpc_url, other.grpc_url])
        with client, Load(client, sizes.num_callers) as load:
            load.until(sizes.event_s)
            server = one.server()
            os.kill(processes_of_model(server)[0], signal.SIGKILL)
            noticed_s = seconds_until(lambda: not one.is_ready())
            mended_s = seconds_until(one.is_ready)
            killed = other.server()
            left = [killed, *children_of(killed)]
            regions = regions_of(killed)
            os.kill(killed, signal.SIGKILL)
            seconds_until(lambda: not other.is_ready())
            back_s = seconds_until(other.is_ready)
            paused_server = one.server()
            paused = processes_of_model(paused_server)[0]
            os.kill(paused, signal.SIGSTOP)
            load.until(load.now_s() + PAUSE_S)
            os.kill(paused, signal.SIGCONT)
            resumed_s = load.now_s()
            seconds_until(lambda: one.server() not in (0, paused_server) and one.is_ready())
            ready_s = load.now_s()
            load.until(max(sizes.seconds, ready_s + 2))
        living = [pid for pid in left if Path(f"/proc/{pid}").exists()]
        remaining = list(SHARED_MEMORY.glob(f"{regions}*"))
    return [
        at_most("the dead process was noticed after", noticed_s, 5.0, "s"),
        told("ready again, with loading and canaries, after", mended_s, "s"),
        told("ready again after SIGKILL", back_s, "s"),
        told("ready again after the end that a pause brings", ready_s - resumed_s, "s"),
        exactly("processes that the killed server left", len(living), 0),
        exactly("regions that it left", len(remaining), 0),
        *load.figures(),
    ]


def drain(sizes: Sizes) -> list[Figure]:
    """SIGTERM for one of two servers; callers take what was ready at the last probe, and never try again."""
    with commands(2, "--drain-seconds", str(DRAIN_S)) as replicas:
        balancer = _Balancer(replicas)
        with balancer, ThreadPoolExecutor(sizes.num_callers) as callers:
            work = [callers.submit(balancer.call, new_image(n)) for n in range(sizes.num_callers)]
            time.sleep(sizes.event_s)
            regions = regions_of(replicas[0].server())
            replicas[0].process.terminate()
            ended_s = seconds_until(lambda: replicas[0].process.poll() is not None)
            time.sleep(max(1.0, sizes.seconds - sizes.event_s - ended_s))
            balancer.is_over.set()
            failures = [failure for each in work for failure in each.result()]
        return [
            told("calls", balancer.num_calls),
            exactly("failed calls", len(failures), 0),
            at_most("its end took", ended_s, DRAIN_S + 10, "s"),
            exactly("exit status", replicas[0].process.returncode, 0),
            exactly("regions that it left", len(list(SHARED_MEMORY.glob(f"{regions}*"))), 0),
            *(Figure("failure", failure) for failure in sorted(set(failures))),
        ]


class _Balancer:
    """Asks every command every 0.25 s whether it is ready, as balancers do."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.is_over = threading.Event()
        self.num_calls = 0
        self._commands = commands
        self._ready = list(commands)
        self._prober = threading.Thread(target=self._probe)

    def __enter__(self) -> _Balancer:
        self._prober.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.is_over.set()
        self._prober.join()

    def call(self, image: bytes) -> list[str]:
        """Ask about an image again and again; return how calls failed."""
        clients = {each.grpc_url: triton.InferenceServerClient(each.grpc_url) for each in self._commands}
        failures = []
        data = np.frombuffer(image, np.uint8)
        tensor = triton.InferInput("image", [data.size], "UINT8").set_data_from_numpy(data)
        while not self.is_over.is_set():
            self.num_calls += 1
            ready = self._ready
            try:
                clients[ready[self.num_calls % len(ready)].grpc_url].infer("depth", [tensor])
            except InferenceServerException as error:
                failures.append(str(error))
        for client in clients.values():
            client.close()
        return failures

    def _probe(self) -> None:
        while not self.is_over.wait(_PROBE_EVERY_S):
            self._ready = [each for each in self._commands if each.is_ready()] or self._ready


@contextmanager
def commands(
    num: int, *options: str, repository: Path = STAND_IN, before: Sequence[str] = ()
) -> Iterator[list[Command]]:
    """Run so many `sapiens serve`; the `with` block begins when they are ready."""
    with ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(num)]
        processes = [started(*options, repository=repository, before=before, log=log) for log in logs]
        try:
            found = [announced(process) for process in processes]
            for command in found:
                seconds_until(command.is_ready)
            yield found
        except TimeoutError:
            for log in logs:
                log.seek(0)
                print("sapiens serve:", *log.readlines()[-_LAST_LINES:], sep="\n", file=sys.stderr)
            raise
        finally:
            for process in processes:
                process.send_signal(signal.SIGINT)
            for process in processes:
                process.communicate(timeout=_PATIENCE_S)


def started(
    *options: str,
    repository: Path = STAND_IN,
    ports: Sequence[str] = ("0", "0"),
    before: Sequence[str] = (),
    log: IO[str] | int = subprocess.DEVNULL,
) -> subprocess.Popen[str]:
    """Start one `sapiens serve`.

    Args:
        options: Of its command line.
        repository: What it serves.
        ports: For gRPC and for health; "0": any free one.
        before: What its command line begins with.
        log: Where it writes.
    """
    words = [*before, sys.executable, "-c", _COMMAND, "serve", "--repository", str(repository), *options]
    words += ["--grpc-port", ports[0], "--health-port", ports[1]]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)


def announced(process: subprocess.Popen[str]) -> Command:
    """Wait until a `sapiens serve` says where it is."""
    line = process.stdout.readline() if process.stdout else ""
    found = _ADDRESSES.match(line)
    if found is None:
        raise RuntimeError(f"sapiens serve must announce itself, got {line!r}; run it by hand")
    return Command(process, found[1], found[2])


def seconds_until(condition: Callable[[], bool]) -> float:
    """Wait for an event; return how long it took."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > _PATIENCE_S:
            raise TimeoutError(f"it must happen within {_PATIENCE_S:g} s, and did not")
        time.sleep(_POLL_S)
    return time.monotonic() - began_s


def regions_of(server: int) -> str:
    """Return what the names of a tritonserver's regions begin with; empty: the process is none."""
    try:
        words = Path(f"/proc/{server}/cmdline").read_text()
    except OSError:
        return ""
    found = re.search(r"shm-region-prefix-name=(\w+)", words)
    return found[1] if found else ""
