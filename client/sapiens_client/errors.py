"""Everything that can go wrong, in one tree; each class is also the built-in error that callers expect.

SapiensError
├── InvalidInputError        ValueError           an image or an option cannot be used
├── ImageReadError           OSError              an image file cannot be read
│   └── ImageNotFoundError   FileNotFoundError    there is no such file
├── ServerUnavailableError   ConnectionError      no Triton server answers at the address
│   └── TLSError             ConnectionError      client and server do not agree on certificates
├── AuthenticationError      PermissionError      the server wants another token or header
├── ServerOverloadedError    ConnectionError      the server's queues are full
├── RequestTimeoutError      TimeoutError         no answer before the deadline
├── ModelNotServedError      LookupError          the server has no such model
├── InferenceError           RuntimeError         the server failed to compute the answer
└── ClientClosedError        RuntimeError         the client was closed before it had the answer
"""

from __future__ import annotations

from typing import Self


class SapiensError(Exception):
    """Root of all errors that the SDK raises.

    Attributes:
        url: Address of the server asked last; None where none was asked.
        attempts: How often the request was sent, to whichever server.
        request_id: What the server's log calls the request; None where the error is not about one.
    """

    url: str | None = None
    attempts: int = 0
    request_id: str | None = None

    def with_more(self, words: str) -> Self:
        """Return the same error with more words at its end."""
        error = type(self)(f"{self}{words}")
        error.url, error.attempts, error.request_id = self.url, self.attempts, self.request_id
        return error


class InvalidInputError(SapiensError, ValueError):
    """An image or an option cannot be used, as found before sending or by the server."""


class ImageReadError(SapiensError, OSError):
    """An image file exists but cannot be read."""


class ImageNotFoundError(ImageReadError, FileNotFoundError):
    """There is no image file at the path."""


class ServerUnavailableError(SapiensError, ConnectionError):
    """No Triton server answers at the address."""


class TLSError(ServerUnavailableError):
    """Client and server do not agree on encryption or certificates."""


class AuthenticationError(SapiensError, PermissionError):
    """The server wants a token or a header that it did not get, or got otherwise."""


class ServerOverloadedError(SapiensError, ConnectionError):
    """The server refused the request because its queues are full; a later try may succeed."""


class RequestTimeoutError(SapiensError, TimeoutError):
    """The answer did not come before the deadline."""


class ModelNotServedError(SapiensError, LookupError):
    """The server has no such model, or one that was not written by `sapiens export`."""


class InferenceError(SapiensError, RuntimeError):
    """The server failed to compute the answer; its log says why."""


class ClientClosedError(SapiensError, RuntimeError):
    """The client was closed before it had the answer."""
