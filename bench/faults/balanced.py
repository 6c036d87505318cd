"""Two `sapiens serve` behind HAProxy and Envoy with the configs of docker/balancers; nobody tries again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import yaml
from figures import Figure, at_most, exactly, told
from load import Sizes
from servers import new_image
from supervised import DRAIN_S, SHARED_MEMORY, Command, commands, regions_of, seconds_until
from tritonclient.utils import InferenceServerException

CONFIGS = Path(__file__).parents[2] / "docker" / "balancers"
_SEARCHED = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
_SIZES = (300_000, 2_000_000)
_LARGE_BYTES = 60_000_000
_LARGE_HW = (3750, 4000)  # 60 MB of float32
_DEADLINE_S = 30.0


def drain_haproxy(sizes: Sizes) -> list[Figure]:
    """SIGTERM for one of two servers behind HAProxy."""
    return _drained("haproxy", sizes)


def drain_envoy(sizes: Sizes) -> list[Figure]:
    """SIGTERM for one of two servers behind Envoy."""
    return _drained("envoy", sizes)


def kill_envoy(sizes: Sizes) -> list[Figure]:
    """SIGKILL for the tritonserver of one of two, behind Envoy, which sends what it had to the other."""
    with commands(2) as replicas, balancer("envoy", replicas) as url:
        with _Callers(url, sizes.num_callers) as callers:
            time.sleep(sizes.event_s)
            os.kill(replicas[0].server(), signal.SIGKILL)
            seconds_until(lambda: not replicas[0].is_ready())
            seconds_until(replicas[0].is_ready)
            time.sleep(max(1.0, sizes.seconds - sizes.event_s))
        return [*callers.figures(), *_large(url)]


def _drained(kind: str, sizes: Sizes) -> list[Figure]:
    with commands(2, "--drain-seconds", str(DRAIN_S)) as replicas, balancer(kind, replicas) as url:
        large = _large(url)
        with _Callers(url, sizes.num_callers) as callers:
            time.sleep(sizes.event_s)
            regions = regions_of(replicas[0].server())
            replicas[0].process.terminate()
            ended_s = seconds_until(lambda: replicas[0].process.poll() is not None)
            time.sleep(max(1.0, sizes.seconds - sizes.event_s - ended_s))
        return [
            *callers.figures(),
            at_most("its end took", ended_s, DRAIN_S + 10, "s"),
            exactly("exit status", replicas[0].process.returncode, 0),
            exactly("regions that it left", len(list(SHARED_MEMORY.glob(f"{regions}*"))), 0),
            *large,
        ]


@contextmanager
def balancer(kind: str, replicas: Sequence[Command]) -> Iterator[str]:
    """Run a balancer with the config that is shipped, but for addresses; yield its own address.

    Args:
        kind: "haproxy" or "envoy", a program on PATH or beside Python.
        replicas: What is behind it.
    """
    program = shutil.which(kind, path=_SEARCHED)
    if program is None:
        raise FileNotFoundError(f"{kind} must be on PATH, found none; see docs/faults.md")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        if kind == "haproxy":
            config = Path(folder, "haproxy.cfg")
            config.write_text(haproxy_config(port, replicas))
            words = [program, "-f", str(config)]
        else:
            config = Path(folder, "envoy.yaml")
            config.write_text(yaml.safe_dump(envoy_config(port, replicas)))
            words = [program, "-c", str(config), "--concurrency", "2", "--use-dynamic-base-id", "-l", "error"]
        process = subprocess.Popen(words, stdout=sys.stderr)
        try:
            url = f"127.0.0.1:{port}"
            with triton.InferenceServerClient(url) as client:
                seconds_until(lambda: _is_live(client))
            yield url
        finally:
            process.terminate()
            process.wait()


def haproxy_config(port: int, replicas: Sequence[Command]) -> str:
    """Return the shipped config with a server line per replica in place of the name."""
    lines = []
    for line in (CONFIGS / "haproxy.cfg").read_text().splitlines():
        if line.strip().startswith("server-template"):
            for number, replica in enumerate(replicas):
                health_port = replica.health_url.rpartition(":")[2]
                lines.append(f"    server r{number} {replica.grpc_url} port {health_port} check-proto h1")
        elif not line.strip().startswith("http-check connect"):
            lines.append(re.sub(r"bind :8001 proto h2.*", f"bind 127.0.0.1:{port} proto h2", line))
    return "\n".join([*lines, ""])


def envoy_config(port: int, replicas: Sequence[Command]) -> Mapping[str, Any]:
    """Return the shipped config with an endpoint per replica in place of the name."""
    config: dict[str, Any] = yaml.safe_load((CONFIGS / "envoy.yaml").read_text())
    resources = config["static_resources"]
    resources["listeners"][0]["address"] = _address(f"127.0.0.1:{port}")
    (cluster,) = resources["clusters"]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {
            "endpoint": {
                "address": _address(replica.grpc_url),
                "health_check_config": {"port_value": int(replica.health_url.rpartition(":")[2])},
            }
        }
        for replica in replicas
    ]
    return config


def _address(url: str) -> Mapping[str, Any]:
    host, _, port = url.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _is_live(client: triton.InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_live(client_timeout=1.0))
    except InferenceServerException:
        return False


class _Callers:
    """Threads that call again and again during the `with` block, each on a connection of its own."""

    def __init__(self, url: str, num_callers: int) -> None:
        self._is_over = Event()
        self._threads = ThreadPoolExecutor(num_callers)
        self._work = [
            self._threads.submit(self._call, url, new_image(number, num_bytes=_SIZES[number % len(_SIZES)]))
            for number in range(num_callers)
        ]

    def __enter__(self) -> _Callers:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()
        self._threads.shutdown()

    def figures(self) -> list[Figure]:
        """Return how many calls there were, and what failed."""
        results = [each.result() for each in self._work]
        failures = [failure for _, failures in results for failure in failures]
        return [
            told("calls", sum(num for num, _ in results)),
            exactly("failed calls", len(failures), 0),
            *(Figure("failure", failure) for failure in sorted(set(failures))),
        ]

    def _call(self, url: str, image: bytes) -> tuple[int, list[str]]:
        num_calls, failures = 0, []
        with triton.InferenceServerClient(url) as client:
            while not self._is_over.is_set():
                num_calls += 1
                try:
                    answer(client, image)
                except InferenceServerException as error:
                    failures.append(str(error))
        return num_calls, failures


def answer(client: triton.InferenceServerClient, image: bytes) -> np.ndarray:
    """Ask once, without trying again; return the depth, (H, W) float32."""
    data = np.frombuffer(image, np.uint8)
    tensor = triton.InferInput("image", [data.size], "UINT8").set_data_from_numpy(data)
    return client.infer("depth", [tensor], client_timeout=_DEADLINE_S).as_numpy("depth")


def _large(url: str) -> list[Figure]:
    """Send 60 MB there and get 60 MB back, through the balancer."""
    with triton.InferenceServerClient(url) as client:
        depth = answer(client, new_image(0, answer_hw=_LARGE_HW, num_bytes=_LARGE_BYTES))
    return [exactly("60 MB there, shape of the 60 MB back", depth.shape, _LARGE_HW)]
