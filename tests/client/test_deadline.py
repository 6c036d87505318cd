"""One deadline bounds all that a call does, on threads that nobody waits for, in the caller's context."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

import pytest

from sapiens_client import AsyncSapiensClient, AuthenticationError, RequestTimeoutError, SapiensClient
from sapiens_client.testing import FakeServer
from sapiens_client.wire.event_loop import MAX_THREADS

WAIT_S = 20  # for what comes at once


def eventually(claim: Callable[[], bool]) -> None:
    ends_at_s = time.monotonic() + WAIT_S
    while not claim() and time.monotonic() < ends_at_s:
        time.sleep(0.01)
    assert claim()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture(params=["threads", "asyncio"])
def depth(request, server) -> Callable[..., object]:
    """A function (image, seconds, options of a client) -> depth, with either client."""

    def in_a_thread(image: object, timeout_s: float, **options: object) -> object:
        with SapiensClient(server.url, **options) as client:
            return client.depth(image, timeout_s=timeout_s)

    async def on_a_loop(image: object, timeout_s: float, **options: object) -> object:
        async with AsyncSapiensClient(server.url, **options) as client:
            return await client.depth(image, timeout_s=timeout_s)

    if request.param == "threads":
        return in_a_thread
    return lambda *about, **options: asyncio.run(on_a_loop(*about, **options))


def test_a_token_that_takes_too_long_ends_the_call_at_its_deadline(depth, photo):
    is_over = threading.Event()
    try:
        with pytest.raises(RequestTimeoutError, match=r"^the token must be there within 0\.5 s"):
            depth(photo, 0.5, token=lambda: str(is_over.wait()))
    finally:
        is_over.set()


def test_the_time_for_the_token_is_part_of_the_calls(depth, server, photo):
    waits = threading.Event()
    depth(photo, 10.0, token=lambda: f"token {waits.wait(1)}")
    left_s = [request.time_left_s for request in server.requests]
    assert left_s[0] < 9.4  # gRPC tells of deadlines to some per cent
    assert left_s[1] < 8.4


def test_an_image_that_cannot_be_read_in_time_ends_the_call_at_its_deadline(depth, monkeypatch):
    is_over = threading.Event()
    monkeypatch.setattr(
        "sapiens_client.tasks.call.encoded_image", lambda *_: is_over.wait()
    )  # a disk that hangs
    try:
        with pytest.raises(RequestTimeoutError, match=r"^the image must be there within 0\.5 s"):
            depth("photo.jpg", 0.5)
    finally:
        is_over.set()


def test_a_busy_event_loops_own_threads_do_not_delay_calls(server, photo):
    async def ask() -> object:
        loop, is_over = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, is_over.wait)
        try:
            async with AsyncSapiensClient(server.url, token=lambda: "token") as client:
                return await client.depth(photo, timeout_s=WAIT_S)
        finally:
            is_over.set()
            await busy

    assert asyncio.run(ask()).image_hw == (120, 90)


class Asked:
    """A function for the token that is slow the first time; it counts its calls."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.is_called = threading.Event()
        self._lock = threading.Lock()
        self.num_at_a_time = self.most_at_a_time = self.num_calls = 0

    def __call__(self) -> str:
        with self._lock:
            self.num_calls += 1
            self.num_at_a_time += 1
            self.most_at_a_time = max(self.most_at_a_time, self.num_at_a_time)
        self.is_called.set()
        try:
            self.is_over.wait(WAIT_S)
        finally:
            with self._lock:
                self.num_at_a_time -= 1
        if self.num_calls == 1:
            return no_token()
        return "token"


def test_a_token_is_asked_for_once_at_a_time_and_an_error_is_everybodys(server, photo):
    token = Asked()
    with SapiensClient(server.url, token=token) as client, ThreadPoolExecutor(20) as threads:
        calls = [threads.submit(client.depth, photo) for _ in range(20)]
        waiting = client._transport._waited_for
        assert token.is_called.wait(WAIT_S)
        eventually(lambda: len(waiting) == 20)
        token.is_over.set()
        errors = [call.exception(WAIT_S) for call in calls]
        assert [type(error) for error in errors] == [AuthenticationError] * 20
        assert len(set(map(id, errors))) == 20
        assert token.num_calls == 1
        assert all(threads.map(client.depth, [photo] * 20))
        assert token.most_at_a_time == 1


def test_a_token_that_never_comes_is_asked_for_anew(server, photo, monkeypatch):
    monkeypatch.setattr("sapiens_client.connection.identity._HANGS_AFTER_S", 0.1)
    token = Asked()
    with SapiensClient(server.url, token=token) as client:
        for number in (1, 2):
            with pytest.raises(RequestTimeoutError, match="the token must be there"):
                client.depth(photo, timeout_s=0.2)
            assert token.num_calls == number
        token.is_over.set()
        assert client.depth(photo).image_hw == (120, 90)


def test_the_impatient_do_not_ask_for_a_token_that_is_on_its_way(server, photo):
    token = Asked()
    with SapiensClient(server.url, token=token) as client:
        for _ in range(5):
            with pytest.raises(RequestTimeoutError, match="the token must be there"):
                client.depth(photo, timeout_s=0.05)
        assert token.num_calls == 1
        token.is_over.set()


class Crowd:
    """Files that are read at the same time, and only together."""

    def __init__(self, content: bytes, number: int) -> None:
        self._content, self._number = content, number
        self._is_there = threading.Condition()
        self._num_there = self.num_most = 0
        self._is_open = False

    def read(self, *_: int) -> bytes:
        with self._is_there:
            self._num_there += 1
            self.num_most = max(self.num_most, self._num_there)
            self._is_open = self._is_open or self._num_there >= self._number
            self._is_there.notify_all()
            self._is_there.wait_for(lambda: self._is_open, WAIT_S)
        time.sleep(0.01)  # long enough for any more that would be read
        with self._is_there:
            self._num_there -= 1
        return self._content


def test_an_asynchronous_client_works_on_few_threads(server, photo, encode):
    files = Crowd(encode(photo), MAX_THREADS)

    async def ask() -> list[object]:
        async with AsyncSapiensClient(server.url) as client:
            return await asyncio.gather(*(client.depth(files) for _ in range(100)))

    assert len(asyncio.run(ask())) == 100
    assert files.num_most == MAX_THREADS


def no_token() -> str:
    return Path("/no/such/token").read_text()


def test_a_token_that_is_not_there_is_an_error_of_the_tree_with_its_cause(depth, photo):
    with pytest.raises(AuthenticationError, match="token must return one, got FileNotFoundError") as caught:
        depth(photo, 30.0, token=no_token)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_token_that_is_not_there_stands_in_the_items_of_many_images(server, photo):
    with SapiensClient(server.url, token=no_token) as client:
        items = list(client.map("depth", [photo] * 3, on_error="yield"))
        assert [type(item.error) for item in items] == [AuthenticationError] * 3
        with pytest.raises(AuthenticationError):
            client.wait_until_ready(timeout_s=30)
        assert not client.ready()


def test_a_token_that_fails_while_a_server_is_away_does_not_end_the_search_for_it(server, photo):
    is_there = threading.Event()

    def token() -> str:
        return "token" if is_there.is_set() else no_token()

    with SapiensClient(server.url, token=token) as client:
        is_there.set()
        client.depth(photo)
        server.cut()
        with pytest.raises(ConnectionError):
            client.depth(photo, timeout_s=0.3)
        is_there.clear()
        threading.Event().wait(0.6)  # probes go on without a token
        is_there.set()
        server.start()
        assert client.depth(photo).image_hw == (120, 90)


SPAN: ContextVar[str] = ContextVar("SPAN", default="lost")
TASKS = ("depth", "pose", "features")


@pytest.mark.parametrize("how", ["call", "analyze", "map"])
def test_threads_work_in_the_context_of_the_caller(how, server, photo):
    seen: list[str] = []

    def token() -> str:
        seen.append(SPAN.get())
        return "token"

    with SapiensClient(server.url, token=token) as client:
        SPAN.set("span")
        asked = {
            "call": lambda: client.depth(photo),
            "analyze": lambda: client.analyze(photo, TASKS),
            "map": lambda: list(client.map("depth", [photo] * 4)),
        }
        asked[how]()
    assert set(seen) == {"span"}


@pytest.mark.parametrize("how", ["call", "analyze", "map"])
def test_an_event_loop_works_in_the_context_of_the_caller(how, server, photo):
    seen: list[str] = []

    def token() -> str:
        seen.append(SPAN.get())
        return "token"

    async def ask() -> None:
        SPAN.set("span")
        async with AsyncSapiensClient(server.url, token=token) as client:
            if how == "map":
                assert [item.error async for item in client.map("depth", [photo] * 4)] == [None] * 4
            else:
                await (client.depth(photo) if how == "call" else client.analyze(photo, TASKS))

    asyncio.run(ask())
    assert set(seen) == {"span"}


INTERRUPTED = """
import os, signal, sys, threading
import numpy as np
from sapiens_client import SapiensClient
client = SapiensClient(sys.argv[1], timeout_s=3600)
def interrupt():
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
image = np.zeros((9, 9, 3), np.uint8)
eval(sys.argv[2])
"""


@pytest.mark.parametrize(
    "call",
    [
        'client.analyze(image, ("depth", "pose", "features"))',
        "client.depth(image)",
        'list(client.map("depth", [image] * 9))',
    ],
)
def test_ctrl_c_ends_a_program_whose_calls_are_not_answered(call, server):
    server.hang("ModelInfer")
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, server.url, call],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        while not any(request.method == "ModelInfer" for request in server.requests):
            assert program.poll() is None
        _, words = program.communicate("\n", timeout=WAIT_S)
    assert words.rstrip().endswith("KeyboardInterrupt")


LEFT_OPEN = """
import threading
import numpy as np
from sapiens_client import SapiensClient
from sapiens_client.testing import FakeServer
server = FakeServer()
server.hang("ModelInfer")
client = SapiensClient(server.url, timeout_s=3600)
threading.Thread(target=client.depth, args=(np.zeros((9, 9, 3), np.uint8),), daemon=True).start()
while not any(request.method == "ModelInfer" for request in server.requests):
    pass
print("done")
"""


def test_a_fake_server_that_is_left_open_does_not_keep_python_from_exiting():
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN], capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert done.stdout == "done\n", done.stderr
