"""Who the server is, and who asks it: certificates, tokens, headers."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sapiens_client.background import in_background
from sapiens_client.errors import AuthenticationError, InvalidInputError
from sapiens_client.steps import Flow, Wait

if TYPE_CHECKING:
    from sapiens_client.connection.address import Target
    from sapiens_client.deadline import Deadline

Pem: TypeAlias = "str | os.PathLike[str] | bytes"
Token: TypeAlias = "str | Callable[[], str]"
Headers: TypeAlias = tuple[tuple[str, str], ...]

_PEM_START = b"-----BEGIN "
_HEADER_NAME = re.compile(r"[a-z0-9_.-]+")
# What gRPC sets itself, or leaves out in silence, or HTTP/2 forbids.
_OWN_HEADERS = {
    *("connection", "content-length", "content-type", "host", "keep-alive", "proxy-connection"),
    *("te", "transfer-encoding", "upgrade", "user-agent"),
}
_HEADER_VALUE = re.compile(r"[ -~]+")
# Triton compares headers of its restricted protocols, which bear this prefix on gRPC.
_TRITON_PREFIX = "triton-grpc-protocol-"
_HANGS_AFTER_S = 10.0


@dataclass(frozen=True)
class TLS:
    """How connections are encrypted.

    Each certificate or key is the path of a PEM file, or the bytes of one.

    Attributes:
        root_certificates: Authorities that may have signed the server's certificate. None: gRPC's own list of
            public ones.
        client_certificate: What tells the server who asks, with all certificates between it and an authority
            of the server. None: nothing does.
        client_key: Private key of `client_certificate`.
        server_name: Name in the server's certificate, where it is not that of the address.

    Raises:
        InvalidInputError: One of client certificate and key is given without the other.
    """

    root_certificates: Pem | None = None
    client_certificate: Pem | None = None
    client_key: Pem | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.server_name, str | None):
            raise InvalidInputError(f"server_name must be a name, got {self.server_name!r:.80}")
        for name in ("root_certificates", "client_certificate", "client_key"):
            if not isinstance(pem := getattr(self, name), str | os.PathLike | bytes | None):
                raise InvalidInputError(f"{name} must be a path or bytes, got {type(pem).__name__}")
        if (self.client_certificate is None) != (self.client_key is None):
            given = "client_key" if self.client_certificate is None else "client_certificate"
            raise InvalidInputError(
                f"client_certificate and client_key must be given together, got only {given}; add the other"
            )


@dataclass(frozen=True)
class Pems:
    """The contents of the files that a `TLS` names, in the order gRPC wants them."""

    root_certificates: bytes | None
    client_key: bytes | None = field(repr=False)
    client_certificate: bytes | None


def read_pems(tls: TLS) -> Pems:
    """Read the files.

    Raises:
        InvalidInputError: A file cannot be read or is not PEM.
    """
    return Pems(
        root_certificates=_pem("root_certificates", tls.root_certificates),
        client_key=_pem("client_key", tls.client_key),
        client_certificate=_pem("client_certificate", tls.client_certificate),
    )


def _pem(name: str, pem: Pem | None) -> bytes | None:
    if pem is None:
        return None
    seen = "other bytes" if isinstance(pem, bytes) else repr(os.fspath(pem))
    try:
        content = pem if isinstance(pem, bytes) else Path(pem).read_bytes()
    except OSError as error:
        raise InvalidInputError(
            f"{name} must be a readable PEM file, got {seen}: {error.strerror}"
        ) from error
    if _PEM_START not in content:
        raise InvalidInputError(
            f"{name} must be PEM, which has a line '-----BEGIN ...', got {seen}; convert it"
        )
    return content


class Identity:
    """What tells servers who asks: the headers of every request. Its `repr` tells nothing.

    Args:
        token: Sent as "Bearer TOKEN"; a function is called for every request, on a thread of its own, but not
            while a call of it is under way: requests that come meanwhile take what that returns. One that
            has not returned for ten seconds is taken to hang, and the next request calls anew.
        headers: Sent as they are.

    Attributes:
        headers: As they are sent.

    Raises:
        InvalidInputError: A header or the token cannot be sent.
    """

    def __init__(self, token: Token | None, headers: Mapping[str, str] | None) -> None:
        self._token = token
        self._asked: Future[str] | None = None  # what the last call of the function returns
        self._asked_s = 0.0  # when that was, on the clock of `time.monotonic`
        self._lock = threading.Lock()
        if headers is not None and not isinstance(headers, Mapping):
            raise InvalidInputError(
                f"headers must be a mapping of names to values, got {type(headers).__name__}"
            )
        self.headers = tuple(_checked_header(name, value) for name, value in (headers or {}).items())
        if token is not None and not callable(token):
            _check_token(token)

    @property
    def is_secret(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.headers) or self._token is not None

    def advice(self, further: Headers = ()) -> str:
        """Return what to do when a server refuses what is sent, with the further headers of a call."""
        headers = (*self.headers, *further)
        if self._token is None:
            sent = f"the headers {', '.join(name for name, _ in headers)}" if headers else "none"
            return f"no token was sent, and of headers {sent}: pass token, or headers with the one it names"
        return "the token that was sent is not the right one: check token, and the header that it names"

    def metadata(self, deadline: Deadline) -> Flow[tuple[tuple[str, str], ...]]:
        """Return the headers of a request: the token where a proxy looks for it, and where Triton does.

        Raises:
            RequestTimeoutError: The token was not there in time.
            AuthenticationError: The function that should return it raised an exception.
            InvalidInputError: It returned something else.
        """
        if self._token is None:
            return self.headers
        token = self._token
        if callable(token):
            token = yield from self._fetched(token, deadline)
        bearer = f"Bearer {token}"
        return (
            ("authorization", bearer),
            (f"{_TRITON_PREFIX}authorization", bearer),
            *self.headers,
        )

    def _fetched(self, token: Callable[[], str], deadline: Deadline) -> Flow[str]:
        """Ask the function for the token, or wait for what it returns to somebody else."""
        with self._lock:
            asked, now_s = self._asked, time.monotonic()
            if asked is None or asked.done() or now_s - self._asked_s > _HANGS_AFTER_S:
                asked, self._asked_s = in_background(token), now_s
                self._asked = asked
        answered: Future[None] = Future()
        asked.add_done_callback(lambda _: _wake(answered))
        yield Wait(answered, deadline.left_s())
        with self._lock:
            if self._asked is asked and asked.done():  # nobody keeps a secret, or an error, for longer
                self._asked = None
        if not asked.done():
            raise deadline.missed("the token")
        error = asked.exception()
        if isinstance(error, Exception):  # whatever a program raises there; its words may hold the token
            raise AuthenticationError(
                f"the function passed as token must return one, got {type(error).__name__}; see its cause"
            ) from error
        text = asked.result()
        _check_token(text)
        return text


def _wake(waiting: Future[None]) -> None:
    if waiting.set_running_or_notify_cancel():
        waiting.set_result(None)


def check_privacy(targets: Sequence[Target], identity: Identity) -> None:
    """Refuse to send secrets that others can read.

    Raises:
        InvalidInputError: There is something secret, and an address beyond this machine.
    """
    remote = [target.url for target in targets if not target.is_loopback]
    if identity.is_secret and remote:
        raise InvalidInputError(
            f"token (also that in SAPIENS_TOKEN) and headers must travel encrypted to other machines, got "
            f"{remote[0]!r}; pass tls, or ClientOptions(plaintext_secrets=True) where something else encrypts"
        )


def _checked_header(name: str, value: str) -> tuple[str, str]:
    lowered = name.lower() if isinstance(name, str) else ""
    if not _HEADER_NAME.fullmatch(lowered):
        raise InvalidInputError(f"names of headers must be letters, digits, '-', '_' and '.', got {name!r}")
    if lowered in _OWN_HEADERS or lowered.startswith("grpc-") or lowered.endswith("-bin"):
        raise InvalidInputError(
            f"headers must be others than those of HTTP/2 and gRPC themselves, got {name!r}; "
            "take another name, which must not end in '-bin' either"
        )
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise InvalidInputError(
            f"the value of header {name!r} must be printable ASCII, got something else; encode it"
        )
    return lowered, value


def _check_token(token: object) -> None:
    """Look at a token without ever showing it."""
    if not isinstance(token, str) or not _HEADER_VALUE.fullmatch(token):
        raise InvalidInputError(
            f"token must be printable ASCII without line breaks, got {type(token).__name__} of another form; "
            "strip what surrounds it"
        )
