"""What each failure of an RPC means: the error it becomes, and whether another try may help.

Only here are texts of Triton and gRPC read. Each is pinned by a test against the real server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from sapiens_client.errors import (
    AuthenticationError,
    ClientClosedError,
    InferenceError,
    InvalidInputError,
    ModelNotServedError,
    RequestTimeoutError,
    SapiensError,
    ServerOverloadedError,
    ServerUnavailableError,
    TLSError,
)
from sapiens_client.steps import CLOSED, CLOSED_SENTENCE
from sapiens_core.contract.region_names import without_region_names

if TYPE_CHECKING:
    from sapiens_client.servers.replicas import Replica
    from sapiens_client.steps import RpcFailure


class Remedy(Enum):
    """What may help."""

    # Every replica would answer the same.
    NONE = auto()
    # This replica is gone: leave it alone until it says that it is ready.
    ELSEWHERE = auto()
    # There is no time left to help; gone if it does not answer the simplest question either, else just slow.
    LOOK_AFTER = auto()
    # Gone if it says that it is not ready, else every replica would answer the same.
    ASK_WHETHER_READY = auto()
    # Another replica may have room, else this one in a while; the request has no part in it.
    LATER = auto()
    # Shared memory did not serve: the server does not know it, or needs more. Without it, all is well.
    AGAIN = auto()
    # The server consents to no pings: without them, all is well.
    WITHOUT_PINGS = auto()
    # One of its processes is dead, although it says that it is ready: leave it alone for longer.
    REST = auto()


@dataclass(frozen=True)
class Meaning:
    """What a failure means.

    Attributes:
        kind: Class of the error.
        remedy: What may help.
        sentence: The words of the error; takes code and text of the failure, and the facts given to `error`.
        is_suspect: The request itself may be why, and do it to every server: it is not sent for ever.
    """

    kind: type[SapiensError]
    remedy: Remedy
    sentence: str
    is_suspect: bool = False

    def error(self, failure: RpcFailure, **facts: object) -> SapiensError:
        """Return the error that callers get."""
        return self.kind(self.sentence.format(code=failure.code, text=plain(failure.text), **facts))


@dataclass(frozen=True)
class Failure:
    """One try that failed.

    Attributes:
        error: How.
        meaning: What that means.
        replica: Where.
        was_unhealthy: Whether the replica was known to be in trouble before.
        left_s: What was left of the call's time when it began.
    """

    error: RpcFailure
    meaning: Meaning
    replica: Replica
    was_unhealthy: bool = False
    left_s: float = 0.0


GONE = Meaning(
    ServerUnavailableError,
    Remedy.ELSEWHERE,
    "a Triton server must answer at {url}, got: {text}; "
    "start it with `sapiens serve`, wait until it is ready, and use its gRPC port",
)
# Gone while it had the request.
BROKE_OFF = replace(GONE, is_suspect=True)
_TOO_MANY_PINGS = replace(GONE, remedy=Remedy.WITHOUT_PINGS)
_INVALID = Meaning(InvalidInputError, Remedy.NONE, "{text}")
_TOO_LARGE = Meaning(
    InvalidInputError,
    Remedy.NONE,
    "{url} must take requests of this size, got: {text}; "
    "send a smaller image or file, or let what stands before the server take more",
)
_HEADERS_TOO_LARGE = Meaning(
    InvalidInputError,
    Remedy.NONE,
    "{url} must take headers of this size, got: {text}; pass a shorter token or fewer headers, "
    "a token is sent in two of them",
)
_NOT_FOUND = Meaning(
    ModelNotServedError,
    Remedy.ASK_WHETHER_READY,
    "{url} must serve the model '{model}', got: {text}; "
    "wait if the server is starting or stopping, else add the model with `sapiens export`",
)
_FULL = Meaning(
    ServerOverloadedError,
    Remedy.LATER,
    "{url} must have room for the request, got: {text}; send fewer or try later",
)
_LATE = "{url} must answer within {timeout_s:g} s, got: {text}; allow more with timeout_s"
_TOO_LATE = Meaning(RequestTimeoutError, Remedy.LOOK_AFTER, _LATE)
_QUEUED_TOO_LONG = Meaning(
    RequestTimeoutError,
    Remedy.LATER,
    "{url} must start the request before it has waited for too long, got: {text}; send fewer or add servers",
)
_FAILED = "{url} must answer with a result of '{model}', got {code}: {text}; see the server's log{about}"
_FAILURE = Meaning(InferenceError, Remedy.NONE, _FAILED)
_DEAD_STUB = Meaning(
    InferenceError,
    Remedy.REST,
    _FAILED + "; a process of the model is dead: restart the server",
    is_suspect=True,
)
_REGION_UNKNOWN = Meaning(InferenceError, Remedy.AGAIN, _FAILED)
_CLOSED = Meaning(
    ClientClosedError,
    Remedy.NONE,
    CLOSED_SENTENCE,
)
_REFUSED = Meaning(
    AuthenticationError,
    Remedy.NONE,
    "{url} must be given what it asks for, got: {text}; {identity_advice}",
)
_NO_GRPC = Meaning(ServerUnavailableError, Remedy.NONE, GONE.sentence)
_UNTRUSTED = Meaning(
    TLSError,
    Remedy.NONE,
    "{url} must show a certificate of an authority that is trusted here, got: {text}; "
    "name the authority with TLS(root_certificates=...)",
)
_OTHER_NAME = Meaning(
    TLSError,
    Remedy.NONE,
    "{url} must show a certificate for its own name, got: {text}; "
    "use the name in the certificate as the address, or TLS(server_name=...)",
)
_PLAIN = Meaning(
    TLSError, Remedy.NONE, "{url} must speak TLS, got: {text}; use a port that does, or leave out tls"
)
_BAD_PEM = Meaning(
    TLSError,
    Remedy.NONE,
    "certificates and key must be PEM and fit together, got: {text} for {url}; check the files given to TLS",
)
# A server that wants TLS, or a client certificate, hangs up without a word about it.
HUNG_UP = Meaning(
    TLSError,
    Remedy.NONE,
    "{url} must accept the connection, but hung up while connecting: {text}; {tls_advice}",
)

_OF_STATUS: Mapping[str, Meaning] = {
    "INVALID_ARGUMENT": _INVALID,
    "NOT_FOUND": _NOT_FOUND,
    "UNAVAILABLE": GONE,
    "CANCELLED": BROKE_OFF,  # by the server, which is ending
    "RESOURCE_EXHAUSTED": _FULL,
    "DEADLINE_EXCEEDED": _TOO_LATE,
    "UNAUTHENTICATED": _REFUSED,
    "PERMISSION_DENIED": _REFUSED,
    CLOSED: _CLOSED,
}

# The one table of texts: a status, a pattern that tells more, what it means.
_OF_TEXT: tuple[tuple[str, str, Meaning], ...] = (
    ("UNAVAILABLE", "Exceeds maximum queue size", _FULL),
    ("UNAVAILABLE", "Request timeout expired", _QUEUED_TOO_LONG),
    ("UNAVAILABLE", "This protocol is restricted", _REFUSED),
    ("INTERNAL", "is not healthy", _DEAD_STUB),
    ("NOT_FOUND", "Unable to find shared memory region", _REGION_UNKNOWN),
    ("INTERNAL", "shared memory size", _REGION_UNKNOWN),
    ("UNAVAILABLE", "CERTIFICATE_VERIFY_FAILED", _UNTRUSTED),
    ("UNAVAILABLE", "Hostname Verification Check failed", _OTHER_NAME),
    ("UNAVAILABLE", "WRONG_VERSION_NUMBER", _PLAIN),
    ("UNAVAILABLE", "Failed to create security handshaker", _BAD_PEM),
    ("UNAVAILABLE", "http1[.]x server", _NO_GRPC),
    # How other servers, in Python or Go, and proxies say that they have no such service.
    ("UNIMPLEMENTED", "^Method not found!$|^unknown (service|method) |header with status: 404$", _NO_GRPC),
    ("UNKNOWN", "header with status: 413$", _TOO_LARGE),
    ("RESOURCE_EXHAUSTED", "message larger than max", _TOO_LARGE),
    ("RESOURCE_EXHAUSTED", "metadata size exceeds", _HEADERS_TOO_LARGE),
    # Whoever answered left amid the reply; the second is what HAProxy says whose server ends a connection.
    ("UNKNOWN", "^No status received$", BROKE_OFF),
    ("UNKNOWN", "Data frame with END_STREAM flag received", BROKE_OFF),
    ("INTERNAL", "RST_STREAM with error code", BROKE_OFF),  # what a proxy does whose server went away
    ("UNAVAILABLE", "^failed to connect .*: Socket closed$", HUNG_UP),
    ("UNAVAILABLE", "[Tt]oo.many.pings", _TOO_MANY_PINGS),
    ("UNAVAILABLE", "^failed to connect ", GONE),
    ("UNAVAILABLE", "closed|reset by peer|Broken pipe|GOAWAY|ping timeout|breaks off", BROKE_OFF),
)

_NOISE = re.compile(
    r"^(in ensemble '[^']*', |\[request id: [^]]*\] |failed to connect to all addresses; last error: \w+: )*"
)
_ROUND_NOISE = re.compile(r"^Stream removed \((.*)\)$")


def meaning_of(failure: RpcFailure) -> Meaning:
    """Return what a failure means; for a text that is not known, what its status means."""
    for code, pattern, meaning in _OF_TEXT:
        if failure.code == code and re.search(pattern, failure.text):
            return meaning
    return _OF_STATUS.get(failure.code, _FAILURE)


def plain(text: str) -> str:
    """Return the first line of a server's text, without what is put around it and names that give access."""
    line = without_region_names(_NOISE.sub("", text).partition("\n")[0])
    return _ROUND_NOISE.sub(r"\1", line) or "no reason"
