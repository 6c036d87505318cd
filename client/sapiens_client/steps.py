"""What a call does, as a generator that does no input or output itself.

A flow yields the steps below and is sent their results, or has their errors thrown into it. The same flows
run in threads (`wire/threads.py`) and on an event loop (`wire/event_loop.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from sapiens_client.deadline import Deadline

R = TypeVar("R")


@dataclass(eq=False)
class Endpoint:
    """An address that RPCs go to; two with the same address have connections of their own.

    Attributes:
        address: What gRPC connects to.
        server_name: Name that the certificate there must bear, where that is not in the address.
        takes_pings: Whether it has not cut a connection yet because of them.
    """

    address: str
    server_name: str | None = None
    takes_pings: bool = True


@dataclass(frozen=True)
class Send:
    """Make an RPC; the result is its reply as bytes, the error an RpcFailure.

    Attributes:
        endpoint: Where.
        method: Its name.
        message: The serialised request.
        timeout_s: How long the reply may take.
        metadata: Headers to send along; may be secret.
    """

    endpoint: Endpoint
    method: str
    message: bytes = field(repr=False)
    timeout_s: float
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Sleep:
    """Wait for some seconds; where the client is closed this, and `Wait`, end at once with an RpcFailure."""

    seconds: float


@dataclass(frozen=True)
class Wait:
    """Wait until a future is done, which may be cancelled then, or for some seconds.

    Attributes:
        future: Only this flow waits for it.
        timeout_s: For how long.
    """

    future: Future[None]
    timeout_s: float


@dataclass(frozen=True)
class Work:
    """Call a function that may take a while: it reads a file or asks the system; the result is its own.

    Attributes:
        function: Called without arguments.
        deadline: When nobody waits for it any more, which is a RequestTimeoutError. None: it takes no longer
            than it computes.
        what: It gives, for that error.
    """

    function: Callable[[], Any]
    deadline: Deadline | None = None
    what: str = ""


@dataclass(frozen=True)
class Together:
    """Run flows at the same time; the result is the list of theirs."""

    flows: Sequence[Flow[Any]]


@dataclass(frozen=True)
class Spawn:
    """Run a flow in the background; it ends by itself, and the client that is closed does not wait for it."""

    flow: Flow[None]


@dataclass(frozen=True)
class HangUp:
    """Close the connections to an endpoint."""

    endpoint: Endpoint


Step: TypeAlias = Send | Sleep | Wait | Work | Together | Spawn | HangUp
Flow: TypeAlias = Generator[Step, Any, R]


def spawned(flow: Flow[None], undo: Callable[[], None]) -> Flow[None]:
    """Run a flow in the background, as `Spawn`.

    Args:
        flow: What to run.
        undo: Called where no thread can be started for it: takes back that somebody is at it.
    """
    try:
        yield Spawn(flow)
    except RuntimeError:
        undo()
        raise


CLOSED = "CLOSED"  # no status of gRPC: this client itself was closed
CLOSED_SENTENCE = "the client must stay open until its calls are answered, got: {text}; use a new one"


class RpcFailure(Exception):  # noqa: N818  it never reaches callers: an error of the tree takes its place
    """An RPC failed.

    Attributes:
        code: Name of the gRPC status, e.g. "UNAVAILABLE"; "CLOSED" where this client was closed.
        text: What gRPC or the server says about it.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
