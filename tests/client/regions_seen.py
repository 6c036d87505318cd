"""What tests of shared memory look at: the files, and what a server says that it knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from sapiens_client.shared.regions import FOLDER
from sapiens_server import RunningServer


def stand_in_normals(image: np.ndarray) -> np.ndarray:
    return image[:, :, ::-1].astype(np.float32) - 127


def known_to(server: RunningServer) -> set[str]:
    """Return the names of the regions that a server knows."""
    with grpc.insecure_channel(server.grpc_url) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/SystemSharedMemoryStatus")
        return set(pb.SystemSharedMemoryStatusResponse.FromString(method(b"")).regions)


def unregister_all(server: RunningServer) -> None:
    with grpc.insecure_channel(server.grpc_url) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/SystemSharedMemoryUnregister")
        while known_to(server):
            with suppress(grpc.RpcError):  # a request that was just answered may still hold one
                method(b"")


def exists(name: str) -> bool:
    return (FOLDER / name).exists()


def eventually(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert is_so()
