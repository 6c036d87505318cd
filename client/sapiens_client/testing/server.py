"""A gRPC server in this process that answers like the real one with models of every task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from functools import partial
from threading import Thread
from typing import Any, Self, TypeVar

import grpc

from sapiens_client.background import Alive, fulfil, started
from sapiens_client.testing.faults import TOKEN_HEADER, Fault
from sapiens_client.testing.models import Networks, default_names, fake_models
from sapiens_client.testing.service import FakeService
from sapiens_client.testing.traffic import Plan, Request, Traffic
from sapiens_core.labels import class_set, keypoint_set

R = TypeVar("R")

_HOST = "127.0.0.1"
_OPTIONS = (
    # As `sapiens serve`: clients may ask for a sign of life every 5 s while they wait for an answer.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # Else a second server could take the same port, and they would share the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)


class FakeServer:
    """A server on loopback, running from its making until `close` or the end of its `with` block.

    Images and boxes are checked as on the real server, with its statuses and sentences; requests that no
    client sends get its status. Results have the right shapes and types and possible values, mean nothing,
    and are the same for the same image.

    Args:
        keypoints: Set of keypoints that poses have: "coco", "coco_wholebody" or "goliath".
        classes: Set of classes of segmentation: "goliath", "cihp", "lip" or "seg_face".
        max_batch_size: Most boxes that `pose` takes in one request.
        persons: How many `detect` and `people_pose` find in every image; fewer in images of fewer columns.
        models: What is served, by names such as "depth" or "depth_2b". What belongs to them comes along:
            raw ensembles, steps, `human`, `people_pose`. None: one network for each task.
        port: Where to listen; 0: a free port.
        credentials: Certificate and key as `grpc.ssl_server_credentials` takes them. None: without TLS.

    Raises:
        ValueError: There is no such set or task, or a number is out of range.
        RuntimeError: The port is taken.

    Example:
        >>> with FakeServer(keypoints="coco_wholebody", persons=3) as server:
        ...     people = SapiensClient(server.url).people("photo.jpg")
    """

    def __init__(
        self,
        *,
        keypoints: str = "coco",
        classes: str = "goliath",
        max_batch_size: int = 4,
        persons: int = 1,
        models: Iterable[str] | None = None,
        port: int = 0,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        networks = Networks(keypoint_set(keypoints), class_set(classes), max_batch_size, persons)
        served = fake_models(default_names() if models is None else models, networks)
        self._models = tuple(sorted(served))
        self._traffic = Traffic()
        self._service = FakeService(served, networks, self._traffic)
        self._credentials = credentials
        self._server: grpc.Server | None = None
        self._port = port
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Its address, "host:port", the same after every start."""
        return f"{_HOST}:{self._port}"

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models, steps included."""
        return self._models

    @property
    def requests(self) -> tuple[Request, ...]:
        """All calls until now, in the order in which they came."""
        return tuple(self._traffic.requests)

    @property
    def num_cancelled(self) -> int:
        """Calls that ended before their answer: their caller left, or they were late or cut off."""
        return self._traffic.num_cancelled

    @property
    def latency_s(self) -> float:
        """How long each inference takes, seconds, on top of computing it; may be changed at any time."""
        return self._traffic.latency_s

    @latency_s.setter
    def latency_s(self, seconds: float) -> None:
        _check_not_negative("latency_s", seconds)
        self._traffic.latency_s = seconds

    @property
    def room(self) -> int | None:
        """How many inferences it works on at a time; it refuses more as its queues were full. None: all."""
        return self._traffic.room

    @room.setter
    def room(self, number: int | None) -> None:
        if number is not None and number < 0:
            raise ValueError(f"room must be at least 0, got {number}; None takes all")
        self._traffic.room = number

    def fail(
        self,
        fault: Fault | grpc.StatusCode,
        text: str | None = None,
        *,
        times: int | None = 1,
        method: str = "ModelInfer",
        after_s: float = 0.0,
    ) -> None:
        """Let the next calls fail; later failures wait for earlier ones.

        Args:
            fault: How the real server fails, or any status of gRPC.
            text: What to say; {model} and {id} are filled in. None: what the real server says.
            times: How many calls; None: all until `recover`.
            method: gRPC method that fails.
            after_s: How long it works before it fails, seconds.

        Raises:
            ValueError: There is no such method, `times` is below 1, `after_s` below 0, or the status means
                success.
        """
        self._check_methods([method])
        code = fault.code if isinstance(fault, Fault) else fault
        if code is grpc.StatusCode.OK or (times is not None and times < 1):
            raise ValueError(
                f"a failure must have a status other than OK and happen at least once, got {code.name} "
                f"{times} times; use recover() to end failures"
            )
        _check_not_negative("after_s", after_s)
        if text is None:
            text = fault.text if isinstance(fault, Fault) else f"{code.name} as the test wants"
        self._traffic.plan(Plan(method, times, code, text, after_s))

    def hang(self, *methods: str) -> None:
        """Accept calls and leave them without an answer until `release`, or until their callers leave.

        Args:
            methods: gRPC methods that hang, as those of a server with stuck models: "ModelInfer". None
                given: all, as those of a process that was stopped.

        Raises:
            ValueError: There is no such method.
        """
        self._check_methods(methods)
        self._traffic.hold(set(methods))

    def release(self) -> None:
        """Answer what hangs, and what comes from now on."""
        self._traffic.release()

    def drain(self) -> None:
        """Answer as a server that was told to end: no model is there any more, but for calls under way."""
        self._traffic.is_draining = True

    def require(self, value: str, header: str = TOKEN_HEADER) -> None:
        """Refuse inference and metadata to those whose header has another value, or who send none.

        Args:
            value: What the header must say, e.g. "Bearer secret".
            header: Its name in lower case.
        """
        self._traffic.required = (header, value)

    def recover(self) -> None:
        """Take back all failures, hanging, draining, slowness, want of room, and the required header."""
        self._traffic.recover()

    def start(self) -> None:
        """Listen again on the same port after `stop` or `cut`; a server that runs goes on.

        Raises:
            RuntimeError: The port is taken.
        """
        if self._server is not None:
            return
        self._pool = _Threads()
        server = grpc.server(self._pool, options=_OPTIONS)  # type: ignore[arg-type]  # any executor serves
        server.add_generic_rpc_handlers((self._service.handler(),))
        address = f"{_HOST}:{self._port}"
        if self._credentials is None:
            self._port = server.add_insecure_port(address)
        else:
            self._port = server.add_secure_port(address, self._credentials)
        server.start()
        self._server = server

    def stop(self, grace_s: float = 5.0) -> None:
        """Refuse connections, let calls under way finish, and end.

        Args:
            grace_s: How long to wait for them, seconds; then they are cut off.
        """
        self._end(grace_s)

    def cut(self) -> None:
        """End at once, as a process that is killed: calls under way lose their connection."""
        self._end(None)

    def close(self) -> None:
        """End for good."""
        self.cut()

    def _end(self, grace_s: float | None) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop(grace_s).wait()
            self._pool.shutdown()

    def _check_methods(self, methods: Iterable[str]) -> None:
        for method in methods:
            if method not in self._service.methods:
                raise ValueError(f"method must be one of {', '.join(self._service.methods)}, got {method!r}")


class _Threads(Executor):
    """One thread per call, none of which the interpreter waits for when it exits."""

    def __init__(self) -> None:
        self._threads: Alive[Thread] = Alive()

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Start a thread."""
        future: Future[R] = Future()
        work = partial(fulfil, future, partial(fn, *args, **kwargs))
        self._threads.add(started(work, name="fake-server", is_waited_for=False))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the threads."""
        for thread in self._threads.listed():
            thread.join()


def _check_not_negative(name: str, seconds: float) -> None:
    if seconds < 0:
        raise ValueError(f"{name} must be at least 0 seconds, got {seconds}; give a longer time")
