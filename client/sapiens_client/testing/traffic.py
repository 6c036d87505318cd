"""What came in, and what shall happen to it instead of an answer; any number of threads may share it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from sapiens_client.testing.faults import Fault, RefusedError, filled

_ENDLESS_S = 1e9  # gRPC says some centuries where there is no deadline


@dataclass(frozen=True)
class Request:
    """A call that came in.

    Attributes:
        method: gRPC method, e.g. "ModelInfer".
        model: Name of the model that it asks; empty: it is about none.
        request_id: The caller's id of an inference request, maybe empty.
        inputs: Shapes of its input tensors by their names.
        outputs: Names of the outputs that it asks for.
        metadata: gRPC's headers by their names, which are in lower case.
        time_left_s: Time until the caller's deadline, seconds; None: it has none.
    """

    method: str
    model: str
    request_id: str
    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str | bytes]
    time_left_s: float | None

    @classmethod
    def of(cls, method: str, message: Any, context: Any) -> Request:
        """Read one from a message of the method and gRPC's context of the call."""
        is_inference = method == "ModelInfer"
        left_s = context.time_remaining()
        return cls(
            method=method,
            model=message.model_name if is_inference else getattr(message, "name", ""),
            request_id=message.id if is_inference else "",
            inputs={each.name: tuple(each.shape) for each in message.inputs} if is_inference else {},
            outputs=tuple(each.name for each in message.outputs) if is_inference else (),
            metadata=dict(context.invocation_metadata()),
            time_left_s=left_s if left_s is not None and left_s < _ENDLESS_S else None,
        )


@dataclass(frozen=True)
class Plan:
    """Failures to come.

    Attributes:
        method: gRPC method that fails.
        times: How many calls; None: all.
        code: gRPC's status.
        text: What the caller is told, see `filled`.
        after_s: How long a call takes before it fails, seconds.
    """

    method: str
    times: int | None
    code: grpc.StatusCode
    text: str
    after_s: float


@dataclass
class Traffic:
    """The state that a test changes while calls come in.

    Attributes:
        latency_s: How long inference takes, seconds.
        room: How many inferences it takes at a time; None: any number.
        is_draining: The server is about to end.
        required: Header without which, or without whose value, a call is refused.
        requests: Calls, in the order in which they came.
        num_cancelled: Calls whose caller did not wait for the end, or that were cut off.
    """

    latency_s: float = 0.0
    room: int | None = None
    is_draining: bool = False
    required: tuple[str, str] | None = None
    requests: list[Request] = field(default_factory=list)
    num_cancelled: int = 0
    _num_inferences: int = 0
    _held: set[str] | None = None  # methods that hang; empty: all of them
    _plans: list[Plan] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def enter(self, request: Request, context: Any) -> Visit:
        """Note a call."""
        with self._changed:
            self.requests.append(request)
        return Visit(self, request, context)

    def hold(self, methods: set[str]) -> None:
        """Let calls of these methods, of all if there are none, wait for `release`."""
        with self._changed:
            self._held = methods

    def release(self) -> None:
        """Let all calls go on that wait."""
        with self._changed:
            self._held = None
            self._changed.notify_all()

    def recover(self) -> None:
        """Forget all failures, and how long things take."""
        with self._changed:
            self._plans.clear()
            self.latency_s, self.room, self.is_draining = 0.0, None, False
            self.required, self._held = None, None
            self._changed.notify_all()

    def plan(self, plan: Plan) -> None:
        """Let the next calls of a method fail; those that were planned before come first."""
        with self._changed:
            self._plans.append(plan)

    def due(self, request: Request) -> RefusedError | None:
        """Take the failure that this call shall meet, if there is one."""
        with self._changed:
            for index, plan in enumerate(self._plans):
                if plan.method == request.method:
                    self._plans[index : index + 1] = _without_one(plan)
                    text = filled(plan.text, request.model, request.request_id)
                    return RefusedError(plan.code, text, plan.after_s)
        return None

    @contextmanager
    def place(self, request: Request) -> Iterator[None]:
        """Count an inference while it is worked on.

        Raises:
            RefusedError: There is no room for it.
        """
        with self._changed:
            if self.room is not None and self._num_inferences >= self.room:
                raise Fault.QUEUE_FULL.error(request.model, request.request_id)
            self._num_inferences += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_inferences -= 1

    def wait(self, visit: Visit, seconds: float) -> None:
        """Let a call take some time, and all the time while its method hangs.

        Raises:
            RefusedError: Its caller has left.
        """
        ends_at_s = time.monotonic() + seconds
        with self._changed:
            while not visit.has_left:
                left_s = ends_at_s - time.monotonic()
                if self._is_held(visit.request.method):
                    self._changed.wait()
                elif left_s > 0:
                    self._changed.wait(left_s)
                else:
                    return
        raise RefusedError(grpc.StatusCode.CANCELLED, "the caller has left")

    def leave(self, visit: Visit) -> None:
        """Note that a call is over, for gRPC."""
        with self._changed:
            if not visit.is_answered:
                visit.has_left = True
                self.num_cancelled += 1
                self._changed.notify_all()

    def _is_held(self, method: str) -> bool:
        return self._held is not None and (not self._held or method in self._held)


def _without_one(plan: Plan) -> list[Plan]:
    if plan.times is None:
        return [plan]
    return [replace(plan, times=plan.times - 1)] if plan.times > 1 else []


class Visit:
    """One call from coming in to leaving.

    Args:
        traffic: Where it is noted.
        request: The call.
        context: gRPC's, which tells when the caller leaves.
    """

    def __init__(self, traffic: Traffic, request: Request, context: Any) -> None:
        self.request = request
        self.is_answered = False
        self.has_left = False
        if not context.add_callback(lambda: traffic.leave(self)):
            traffic.leave(self)
