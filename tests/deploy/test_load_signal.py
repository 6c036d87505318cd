"""What a fleet is scaled by, at a live server that callers keep busy."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from live import scraping, serving
from programs import say
from real_servers import becomes_true

STAND_IN = Path(__file__).parents[2] / "bench" / "faults" / "stand_in"
SIGNAL = "sum(triton:waiting_requests:rate30s)"
NUM_SLOTS, NUM_CALLERS = 4, 24
WAIT_MS = 80


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    with (
        serving(STAND_IN, tmp_path_factory.mktemp("log")) as served,
        scraping(served, tmp_path_factory.mktemp("prometheus")) as prometheus,
    ):
        yield served, prometheus


def signal(prometheus) -> float:
    (found,) = prometheus.query(SIGNAL) or [{"value": (0, "nan")}]
    return float(found["value"][1])


def call_until(is_over: threading.Event, url: str) -> None:
    image = np.array([WAIT_MS, 0, 1, 3], np.uint32).view(np.uint8)
    tensor = triton.InferInput("image", [image.size], "UINT8").set_data_from_numpy(image)
    with triton.InferenceServerClient(url) as client:
        while not is_over.is_set():
            client.infer("depth", [tensor])


def test_waiting_requests_are_callers_beyond_the_slots_and_nothing_when_idle(watched):
    served, prometheus = watched
    assert becomes_true(lambda: signal(prometheus) < 0.1)
    is_over = threading.Event()
    callers = [
        threading.Thread(target=call_until, args=(is_over, served.grpc_url)) for _ in range(NUM_CALLERS)
    ]
    began_s = time.monotonic()
    for caller in callers:
        caller.start()
    # Most of the time of a caller is waiting, so a busy machine changes little: 20 wait of 24.
    expected = NUM_CALLERS - NUM_SLOTS
    is_right = becomes_true(lambda: 0.9 * expected < signal(prometheus) < 1.1 * expected)
    reached_s, reached = time.monotonic() - began_s, signal(prometheus)
    is_over.set()
    for caller in callers:
        caller.join()
    idle_s = time.monotonic()
    assert is_right, f"{reached:.1f} waiting requests, expected {expected}, after {reached_s:.0f} s"
    assert becomes_true(lambda: signal(prometheus) < 0.1)
    over_s = time.monotonic() - idle_s
    say(f"waiting requests were told after {reached_s:.0f} s, their end after {over_s:.0f} s")
