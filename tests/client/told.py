"""What errors tell: the last words, which say what to do, and the facts."""

from __future__ import annotations

from sapiens_client import RequestTimeoutError, SapiensError

START = "start it with `sapiens serve`, wait until it is ready, and use its gRPC port"
LOG = "see the server's log{about}"
LONGER = "allow more with timeout_s"
FEWER = "send fewer or try later"
EXPORT = "wait if the server is starting or stopping, else add the model with `sapiens export`"
TOKEN = "pass token, or headers with the one it names"
SMALLER = "send a smaller image or file, or let what stands before the server take more"
LOOK = "look whether a server is behind that address"
THE_SERVERS_OWN = "some reason"
AGAIN = 0  # in place of a number: sent again and again until the deadline


def patience_s(told: tuple[type[SapiensError], int, str]) -> float:
    """Return how long to wait for an error, seconds: not long where only the deadline ends it."""
    return 1.0 if told[0] is RequestTimeoutError or told[1] == AGAIN else 10.0


def assert_tells(error: object, told: tuple[type[SapiensError], int, str], request_id: str | None) -> None:
    """Check an error.

    Args:
        error: The error.
        told: Its class, how often the request was sent (or AGAIN), what to do.
        request_id: What the server calls the request.
    """
    kind, attempts, hint = told
    assert type(error) is kind
    assert error.attempts == attempts or (attempts == AGAIN and error.attempts >= 2)
    assert error.request_id == request_id
    about = f" about request {request_id}" if request_id else ""
    assert str(error).endswith(hint.format(about=about))
