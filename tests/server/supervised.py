"""One `sapiens serve` in a process of its own, with a model that waits, fails or dies on demand."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE

import numpy as np
import tritonclient.grpc as triton

# Waits while the first byte of an image says so (in tenths of a second), fails or dies while a file says so.
MODEL = """
import os
import signal
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils

FOLDER = Path(__file__).parent


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        if (FOLDER / "deadly").exists():
            os.kill(os.getppid(), signal.SIGKILL)
        while (FOLDER / "asleep").exists():
            time.sleep(0.1)
        while (FOLDER / "slow").exists():
            pass
        if (FOLDER / "broken").exists():
            raise RuntimeError("it is broken")
        image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        if image[0] < 50:
            (FOLDER / "waiting").touch()
            time.sleep(image[0] / 10)
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", image)])
"""
CONFIG = """
backend: "python" max_batch_size: 0 instance_group [ { kind: KIND_CPU count: 2 } ]
input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_UINT8 dims: [ -1 ] } ]
"""
OWN = 'parameters { key: "contract" value { string_value: "1" } }'  # as `sapiens export` writes it
COMMAND = """
import sys
import typer
from sapiens_server.cli import serve_command
from sapiens_server.supervise import monitor, supervisor
supervisor._MAX_RESTARTS = int(sys.argv.pop(1))
monitor._PATIENCE_S = float(sys.argv.pop(1))
app = typer.Typer()
app.command()(serve_command)
app()
"""
PATIENCE_S = 120.0


@dataclass
class Supervised:
    """One `sapiens serve` in a process of its own."""

    process: subprocess.Popen[str]
    errors: Path
    grpc_url: str = ""
    health_url: str = ""
    seen: list[int] = field(default_factory=list)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.health_url}{path}", timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_ready(self) -> bool:
        return self.get("/ready")[0] == 200

    def figure(self, name: str) -> float:
        found = re.search(rf"^sapiens_serve_{re.escape(name)} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else float("nan")

    def server(self) -> int:
        """Process id of tritonserver, 0 while there is none."""
        return next((pid for pid in children(self.process.pid) if b"--id=" in command_line(pid)), 0)

    def ask(self, first: int = 255, num_bytes: int = 3) -> list[int]:
        return asked(self.grpc_url, first, num_bytes)


def children(pid: int) -> list[int]:
    listings = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for listing in listings for child in listing.read_text().split()]


def command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def asked(url: str, first: int, num_bytes: int) -> list[int]:
    with triton.InferenceServerClient(url) as client:
        image = np.arange(num_bytes).astype(np.uint8)
        image[0] = first
        tensor = triton.InferInput("image", [image.size], "UINT8").set_data_from_numpy(image)
        return client.infer("picture", [tensor], client_timeout=60).as_numpy("y").tolist()


def becomes_true(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def new_repository(folder: Path, *, is_own: bool = True) -> Path:
    version = folder / "picture" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(f'name: "picture" {CONFIG} {OWN if is_own else ""}')
    (version / "model.py").write_text(MODEL)
    return folder


def started(
    repository: Path,
    errors: Path,
    *arguments: str,
    max_restarts: int = 5,
    patience_s: float = 60,
    before: Sequence[str] = (),
) -> Supervised:
    options = ["--repository", str(repository), "--grpc-port", "0", "--health-port", "0", *arguments]
    words = [*before, sys.executable, "-c", COMMAND, str(max_restarts), str(patience_s), *options]
    with errors.open("w") as stream:
        process = subprocess.Popen(words, stdout=PIPE, stderr=stream, text=True)
    return Supervised(process, errors)


def announced(supervised: Supervised, models: str = "picture") -> Supervised:
    """Wait until the server serves."""
    line = supervised.process.stdout.readline() if supervised.process.stdout else ""
    found = re.match(r"serving at ([\d.:]+).*, health ([\d.:]+): (.+)\n", line)
    assert found, supervised.errors.read_text()
    assert found[3] == models
    supervised.grpc_url, supervised.health_url = found[1], found[2]
    return supervised


def ended(supervised: Supervised) -> None:
    supervised.process.kill()
    supervised.process.communicate()
