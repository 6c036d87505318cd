"""Real servers with the stand-in model, what is asked of them, and what is done to them."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sapiens_client import DepthResult
from sapiens_server import RunningServer, ServerOptions, serve

JOURNAL_VARIABLE = "STAND_IN_JOURNAL"  # names the file in which the stand-in notes what it computed
STAND_IN = Path(__file__).with_name("stand_in")
NUM_SLOTS = 4  # instances of the stand-in per server
WAIT_S = 0.08
IMAGE_BYTES = 300_000
_ANSWER_HW = (1, 3)


class Fleet:
    """Servers that are all killed at the end, which takes no time, and leaves nothing.

    Args:
        arguments: Of tritonserver, beyond those of `serve`.
        repository: What they serve.
    """

    def __init__(self, *arguments: str, repository: Path = STAND_IN) -> None:
        self._repository = repository
        self._options = ServerOptions(arguments=arguments)
        self._servers: list[RunningServer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for server in [*self._servers]:
            self.kill(server)

    def start(self, host: str = "127.0.0.1", port: int = 0) -> RunningServer:
        """Start one more and return once it is ready."""
        server = serve(self._repository, host=host, grpc_port=port, options=self._options)
        self._servers.append(server)
        return server

    def kill(self, server: RunningServer) -> None:
        """Send SIGKILL, then remove what is left of the server."""
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGKILL)
        self.stop(server)

    def stop(self, server: RunningServer) -> None:
        """Send SIGTERM and return once the server has ended."""
        self._servers.remove(server)
        server.stop()


def port_of(server: RunningServer) -> int:
    """Return the port of a server."""
    return int(server.grpc_url.rpartition(":")[2])


def is_listening(server: RunningServer) -> bool:
    """Return whether somebody accepts connections at the address of a server."""
    host, _, port = server.grpc_url.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def model_processes(server: RunningServer) -> list[int]:
    """Return the ids of the processes of the model, one per instance."""
    return processes_of_model(server.pid)


def processes_of_model(server: int) -> list[int]:
    """Return the same for the process id of a tritonserver."""
    return [
        pid
        for pid in children_of(server)
        if b"/depth/1/model.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def children_of(process: int) -> list[int]:
    """Return the ids of the children of a process."""
    children = Path(f"/proc/{process}/task").glob("*/children")
    return [int(pid) for path in children for pid in path.read_text().split()]


def new_image(
    number: int = 0,
    *,
    wait_s: float = WAIT_S,
    num_bytes: int = IMAGE_BYTES,
    answer_hw: tuple[int, int] = _ANSWER_HW,
) -> bytes:
    """Return what the stand-in takes for an image.

    Args:
        number: What it is called in the answer.
        wait_s: How long it takes.
        num_bytes: Its size.
        answer_hw: Size of the depth; 0 x 0 is refused as invalid.
    """
    words = np.array([round(wait_s * 1e3), number, *answer_hw], np.uint32)
    return words.tobytes() + np.random.default_rng(number).bytes(num_bytes - words.nbytes)


def answering_server(image: bytes, result: DepthResult) -> int:
    """Return the process id of the server that answered.

    Raises:
        ValueError: The answer belongs to another image.
    """
    return server_in(result.depth, image)


def server_in(depth: NDArray[np.float32], image: bytes) -> int:
    """Return the same for the array alone.

    Args:
        depth: (1, 3), what the stand-in says in place of depth.
        image: What it was asked about.
    """
    pid, *told = (int(value) for value in depth[0, :3])
    wanted = [int(np.frombuffer(image[:8], np.uint32)[1]), sum_of(image)]
    if told != wanted:
        raise ValueError(f"the answer must be about number and sum {wanted}, got {told}")
    return pid


def sum_of(image: bytes) -> int:
    """Return the sum that the stand-in tells about an image."""
    return int(np.frombuffer(image, np.uint8).sum(dtype=np.uint64) % 2**24)
