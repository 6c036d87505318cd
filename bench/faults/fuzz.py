"""Damaged images and requests: `sapiens serve` answers each or refuses it, and nothing else happens."""

from __future__ import annotations

import re
import shutil
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import tritonclient.grpc as triton
from figures import Figure, at_most, exactly, told
from load import Sizes
from mutants import images, mutant, odd_request
from servers import children_of
from supervised import Command, commands

_MODELS = Path(__file__).parents[2] / "model_repository"
STEPS = ("dense_preprocess", "pose_preprocess")  # all that reads what callers send; no network
_NUM_CALLERS = 4
_IMAGES_PER_SIZE, _WARM = 10, 200
_DEADLINE_S = 60.0
METHOD = "/inference.GRPCInferenceService/ModelInfer"
_REFUSED = "INVALID_ARGUMENT"
_GROWTH_MB = 100  # of processes that keep some memory for the next image
_RESTARTS = "sapiens_serve_restarts_total"
_BOXES = np.array([[0, 0, 40, 50], [10, 5, 70, 59]], np.float32)

Ask = Callable[[bytes], str]


def fuzz(sizes: Sizes) -> list[Figure]:
    """Ask about ten damaged images per `--images`, then send as many damaged requests as `--images` says."""
    rng, whole = np.random.default_rng(0), images()
    damaged = [
        mutant(rng, whole[number % len(whole)], whole)
        for number in range(_IMAGES_PER_SIZE * sizes.num_images)
    ]
    messages = [request_for(STEPS[number % 2], image) for number, image in enumerate(whole)]
    requests = [message.SerializeToString() for message in messages]
    odd = [
        odd_request(rng, messages[number % len(messages)])
        if number % 2
        else mutant(rng, requests[number % len(requests)], requests)
        for number in range(sizes.num_images)
    ]
    with served_steps() as command, grpc.insecure_channel(command.grpc_url) as channel:
        ask = partial(status, channel.unary_unary(METHOD))
        warm = _statuses(ask, [requests[number % len(requests)] for number in range(_WARM)])
        before_mb, server = memory_mb(command), command.server()
        of_images = _statuses(
            ask, [request_for(STEPS[n % 2], image).SerializeToString() for n, image in enumerate(damaged)]
        )
        of_requests = _statuses(ask, odd)
        still = _statuses(ask, requests)
        after_mb = memory_mb(command)
        restarts, is_same = _restarts(command), command.server() == server
    answered = {"OK", _REFUSED}
    return [
        exactly("whole images answered before and after", warm["OK"] + still["OK"], _WARM + len(requests)),
        told("damaged images", len(damaged)),
        told("answered nevertheless", of_images["OK"]),
        exactly(
            "neither answered nor refused as invalid",
            len(damaged) - sum(of_images[each] for each in answered),
            0,
        ),
        told("damaged requests", len(odd)),
        Figure("statuses of those", ", ".join(f"{name} {num}" for name, num in sorted(of_requests.items()))),
        exactly(
            "without an answer in time", of_images["DEADLINE_EXCEEDED"] + of_requests["DEADLINE_EXCEEDED"], 0
        ),
        exactly("restarts", restarts or "none", "none"),
        exactly("the server is the same process", is_same, True),
        at_most("memory afterwards, beyond that before", after_mb - before_mb, _GROWTH_MB, "MB"),
    ]


@contextmanager
def served_steps() -> Iterator[Command]:
    """Run `sapiens serve` with all that reads what callers send."""
    with tempfile.TemporaryDirectory() as folder:
        for step in STEPS:
            shutil.copytree(_MODELS / step, Path(folder) / step)
        with commands(1, repository=Path(folder)) as (command,):
            yield command


def request_for(model: str, image: bytes) -> triton.service_pb2.ModelInferRequest:
    """Return a request for what of the result is small."""
    request = triton.service_pb2.ModelInferRequest(model_name=model)
    arrays = [("image", "UINT8", np.frombuffer(image, np.uint8))]
    if model == "pose_preprocess":
        arrays.append(("bboxes", "FP32", _BOXES))
    for name, datatype, array in arrays:
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    request.outputs.add(name="image_hw")
    return request


def status(method: Callable[..., bytes], message: bytes) -> str:
    """Return how a call ends."""
    try:
        method(message, timeout=_DEADLINE_S)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def _statuses(ask: Ask, messages: list[bytes]) -> Counter[str]:
    with ThreadPoolExecutor(_NUM_CALLERS) as callers:
        return Counter(callers.map(ask, messages))


def memory_mb(command: Command) -> float:
    """Return what the server and the processes of its models have for themselves."""
    return _own_mb(command.server()) + processes_mb(command)


def processes_mb(command: Command) -> float:
    """Return what the processes of its models have for themselves."""
    return sum(map(_own_mb, children_of(command.server())))


def _own_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3


def _restarts(command: Command) -> str:
    """Return how often the server was started again for which cause."""
    with urllib.request.urlopen(f"http://{command.health_url}/metrics", timeout=60) as reply:
        told_all = re.findall(rf'^{_RESTARTS}{{cause="(\w+)"}} (\d+)$', reply.read().decode(), re.MULTILINE)
    return ", ".join(f"{cause} {num}" for cause, num in told_all if int(num))
