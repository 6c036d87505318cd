"""One request, what came of it, and what became of each time that it was sent in vain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sapiens_client.errors import InferenceError
from sapiens_client.servers.failures import Failure, Remedy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sapiens_client.connection.identity import Headers
    from sapiens_client.deadline import Deadline
    from sapiens_client.servers.pace import Pace, Turn
    from sapiens_client.servers.replicas import Replica
    from sapiens_client.steps import Endpoint, Flow


@dataclass(frozen=True)
class Request:
    """What is sent.

    Attributes:
        method: Name of the RPC.
        message: It serialised; or a function of the endpoint and the seconds left that makes it, every time.
        model: Which model it is about.
        request_id: What the server's log calls it, if anything.
        headers: Further ones to send along; may be secret.
        trace: What tells of the span that the request belongs to, unless `headers` do.
    """

    method: str
    message: bytes | Callable[[Endpoint, float], Flow[bytes]] = b""
    model: str = ""
    request_id: str | None = None
    headers: Headers = field(default=(), repr=False)
    trace: Headers = ()

    @property
    def all_headers(self) -> Headers:
        """What is sent along; a trace that the caller has passed stands for the span's."""
        is_traced = any(name == "traceparent" for name, _ in self.headers)
        return self.headers if is_traced else (*self.headers, *self.trace)


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        reply: The serialised reply.
        request_bytes: Size of the request.
        url: Address of the replica that answered.
        attempts: How often the request was sent.
        request_id: What the server's log calls it, if anything.
    """

    reply: bytes
    request_bytes: int
    url: str
    attempts: int
    request_id: str | None

    def error(self, sentence: str) -> InferenceError:
        """Return the error that this is not what was asked for."""
        error = InferenceError(sentence)
        error.url, error.attempts, error.request_id = self.url, self.attempts, self.request_id
        return error


@dataclass
class Effort:
    """What was done for one request until now.

    Attributes:
        request: The request.
        deadline: When its answer must be here.
        hopeless_at_s: When to give up if no server has ever answered, on the clock of `time.monotonic`.
        pace: Of all requests to the model.
        turn: Its own, or its place in the line; None: it rests.
        failures: Of every try.
        num_before_pause: How many of them were before the last pause.
        num_pauses: How many pauses there were, other than for servers that are known to be away.
    """

    request: Request
    deadline: Deadline
    hopeless_at_s: float
    pace: Pace
    turn: Turn | None = None
    failures: list[Failure] = field(default_factory=list)
    num_before_pause: int = 0
    num_pauses: int = 0

    def give_back(self) -> None:
        """Let others have its turn, or leave the line."""
        turn, self.turn = self.turn, None
        if turn is not None:
            self.pace.give_back(turn)

    @property
    def tried(self) -> list[Replica]:
        """The replicas that failed since the last pause."""
        return [failure.replica for failure in self.failures[self.num_before_pause :]]

    @property
    def num_suspect(self) -> int:
        """How many of the failures may be the request's own fault."""
        return sum(failure.meaning.is_suspect for failure in self.failures)

    @property
    def num_again(self) -> int:
        """How many of the failures were about how the request was sent."""
        return sum(failure.meaning.remedy is Remedy.AGAIN for failure in self.failures)


def telling(failures: Sequence[Failure], timeout_s: float) -> Failure:
    """Return the failure to tell of: that of the last try, unless it was given little time by those before.

    Args:
        failures: Of all tries, at least one.
        timeout_s: The time that the caller allowed.
    """
    last = failures[-1]
    was_short = len(failures) > 1 and last.left_s < timeout_s / 2
    return failures[-2] if was_short and last.meaning.remedy is Remedy.LOOK_AFTER else last
