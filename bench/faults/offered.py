"""More load than one server can carry: what it answers, what it refuses, and how fast it does both."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import tritonclient.grpc as triton
from crowds import mapped, server_with_queue
from figures import Figure, at_least, at_most, exactly, told
from load import Sizes
from servers import NUM_SLOTS, WAIT_S, new_image
from tritonclient.utils import InferenceServerException

_QUEUE_SIZE = 16
_OVERLOADS = (3.0, 10.0)
_SHARES = (0.5, 1.0, 1.5, 2.0, *_OVERLOADS)  # of what the server can carry
_IMAGE_BYTES = 3_000
_REFUSED = "Exceeds maximum queue size"
_SETTLED_S = 1.0
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class _Call:
    """One request.

    Attributes:
        ended_s: When it was over, seconds since the load began.
        took_s: How long that was.
        failure: What the caller was told; empty where it was answered.
    """

    ended_s: float
    took_s: float
    failure: str


def offered(sizes: Sizes) -> list[Figure]:
    """Send requests at a steady rate, whatever becomes of those before; nothing is sent twice."""
    figures: list[Figure] = []
    seconds = sizes.seconds / 3  # for each of the rates
    with server_with_queue(_QUEUE_SIZE) as server:
        capacity = mapped(server, sizes.num_images, NUM_SLOTS + _QUEUE_SIZE // 2).images_per_s
        figures.append(told("answers per second to as many callers as fit", capacity, "/s"))
        for share in _SHARES:
            calls = _sent(server.grpc_url, share * capacity, seconds)
            goodput = _goodput(calls, seconds) / capacity
            figures.append(told(f"answered at {share:g} x", goodput, "x"))
            if share in _OVERLOADS:
                figures += _overloaded(share, calls, goodput)
    return figures


def _overloaded(share: float, calls: list[_Call], goodput: float) -> list[Figure]:
    """Return what is required where there is far too much."""
    answered, refused = (
        [call.took_s for call in calls if bool(call.failure) is is_refused] for is_refused in (False, True)
    )
    longest_s = 2 * _QUEUE_SIZE * WAIT_S / NUM_SLOTS
    num_others = sum(bool(call.failure) and _REFUSED not in call.failure for call in calls)
    at = f"at {share:g} x"
    return [
        told(f"refused {at}", len(refused)),
        at_least(f"of what it can, answered {at}", goodput, 0.9, "x"),
        at_most(f"99 of 100 answers there within, {at}", float(np.quantile(answered, 0.99)), longest_s, "s"),
        at_most(f"99 of 100 refusals there within, {at}", float(np.quantile(refused, 0.99)), 0.05, "s"),
        told(f"slowest refusal {at}", max(refused), "s"),
        exactly(f"failures other than refusals, {at}", num_others, 0),
    ]


def _goodput(calls: list[_Call], seconds: float) -> float:
    """Return the answers per second after the queue has filled and until nothing is sent any more."""
    num = sum(not call.failure and _SETTLED_S < call.ended_s <= seconds for call in calls)
    return num / (seconds - _SETTLED_S)


def _sent(url: str, rate: float, seconds: float) -> list[_Call]:
    """Send so many requests per second for a while; return what became of each."""
    calls: list[_Call] = []
    num = round(rate * seconds)
    are_over = threading.Semaphore(0)
    image = np.frombuffer(new_image(num_bytes=_IMAGE_BYTES), np.uint8)
    tensor = triton.InferInput("image", [image.size], "UINT8").set_data_from_numpy(image)
    began_s = time.monotonic()

    def note(sent_s: float, result: object, error: InferenceServerException | None) -> None:
        now_s = time.monotonic()
        calls.append(_Call(now_s - began_s, now_s - sent_s, str(error or "")))
        are_over.release()

    with triton.InferenceServerClient(url) as client:
        for number in range(num):
            time.sleep(max(0.0, began_s + number / rate - time.monotonic()))
            client.async_infer("depth", [tensor], partial(note, time.monotonic()))
        for _ in range(num):
            if not are_over.acquire(timeout=_PATIENCE_S):
                raise TimeoutError(f"every request must end within {_PATIENCE_S:g} s")
    return calls
