"""A closed loop of callers, of whose every call is known when it was, who answered, and at which try."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from figures import Figure, at_least, at_most, exactly, told
from servers import IMAGE_BYTES, answering_server, new_image

from sapiens_client import ClientOptions, SapiensClient, SapiensError


@dataclass(frozen=True)
class Sizes:
    """How large a run is.

    Attributes:
        seconds: How long the load lasts, at least.
        event_s: When it happens.
        num_callers: How many calls are under way at a time.
        resolve_every_s: How old the client's addresses of a name may become.
        num_images: How many are asked about in bulk.
    """

    seconds: float = 15.0
    event_s: float = 3.0
    num_callers: int = 8
    resolve_every_s: float = ClientOptions().resolve_every_s
    num_images: int = 1000


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        started_s: Seconds since the load began.
        ended_s: When the answer was there.
        server: Process id of the server that answered; None: it failed.
        attempts: How often the request was sent.
        failure: What the caller was told; empty where it was answered.
    """

    started_s: float
    ended_s: float
    server: int | None
    attempts: int
    failure: str = ""

    @property
    def duration_s(self) -> float:
        """How long it took."""
        return self.ended_s - self.started_s


class Load:
    """Callers on threads, each with an image of its own; they stop at the end of the `with` block.

    Args:
        client: Of which servers.
        num_callers: How many calls are under way at a time.
        num_bytes: Size of each image.
    """

    def __init__(self, client: SapiensClient, num_callers: int, num_bytes: int = IMAGE_BYTES) -> None:
        self._client = client
        self._images = [new_image(number, num_bytes=num_bytes) for number in range(num_callers)]
        self._is_over = threading.Event()
        self._threads = ThreadPoolExecutor(num_callers)
        self._began_s = time.monotonic()
        self.calls: list[Call] = []

    def __enter__(self) -> Self:
        self._work = [self._threads.submit(self._call, image) for image in self._images]
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over.set()
        self._threads.shutdown()
        for each in self._work:
            each.result()

    def now_s(self) -> float:
        """Return the seconds since the load began."""
        return time.monotonic() - self._began_s

    def until(self, moment_s: float) -> None:
        """Wait until this many seconds after the load began."""
        time.sleep(max(0.0, moment_s - self.now_s()))

    def figures(self, slowest_s: float | None = None) -> list[Figure]:
        """Return what every check tells about its calls; some must have been hit by the event.

        Args:
            slowest_s: What the slowest call may take.
        """
        slowest = max(call.duration_s for call in self.calls)
        num_failed = sum(bool(call.failure) for call in self.calls)
        return [
            told("calls", len(self.calls)),
            exactly("failed calls", num_failed, 0),
            at_least("calls sent more than once", sum(call.attempts > 1 for call in self.calls), 1),
            told("requests sent at most for one call", max(call.attempts for call in self.calls)),
            told("slowest call", slowest, "s")
            if slowest_s is None
            else at_most("slowest call", slowest, slowest_s, "s"),
        ] + [Figure("failure", failure) for failure in sorted({call.failure for call in self.calls} - {""})]

    def first_answer_s(self, server: int, after_s: float = 0.0) -> float:
        """Return when a server, by its process id, gave an answer to a call begun after a moment."""
        ended = (call.ended_s for call in self.calls if call.server == server and call.started_s >= after_s)
        return min(ended, default=float("inf"))

    def _call(self, image: bytes) -> None:
        while not self._is_over.is_set():
            started_s = self.now_s()
            try:
                result = self._client.depth(image)
                server, attempts = answering_server(image, result), result.timing.attempts
                self.calls.append(Call(started_s, self.now_s(), server, attempts))
            except (SapiensError, ValueError) as error:
                attempts = error.attempts if isinstance(error, SapiensError) else 1
                failure = f"{type(error).__name__}: {error}"
                self.calls.append(Call(started_s, self.now_s(), None, attempts, failure))
