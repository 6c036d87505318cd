"""Everything that can go wrong, in one tree; each class is also the built-in error that callers expect.

SapiensError
├── InvalidInputError        ValueError           an image or an option cannot be used
├── ImageReadError           OSError              an image file cannot be read
│   └── ImageNotFoundError   FileNotFoundError    there is no such file
├── ServerUnavailableError   ConnectionError      no Triton server answers at the address
├── ServerOverloadedError    ConnectionError      the server's queues are full
├── RequestTimeoutError      TimeoutError         no answer before the deadline
├── ModelNotServedError      LookupError          the server has no such model
├── InferenceError           RuntimeError         the server failed to compute the answer
└── ClientClosedError        RuntimeError         the client was closed before it had the answer
"""

from __future__ import annotations


class SapiensError(Exception):
    """Root of all errors that the SDK raises."""


class InvalidInputError(SapiensError, ValueError):
    """An image or an option cannot be used, as found before sending or by the server."""


class ImageReadError(SapiensError, OSError):
    """An image file exists but cannot be read."""


class ImageNotFoundError(ImageReadError, FileNotFoundError):
    """There is no image file at the path."""


class ServerUnavailableError(SapiensError, ConnectionError):
    """No Triton server answers at the address."""


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
