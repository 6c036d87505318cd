"""The rarer choices about a client."""

from __future__ import annotations

from dataclasses import dataclass

from sapiens_client.errors import InvalidInputError


@dataclass(frozen=True)
class ClientOptions:
    """How a client finds servers that fail, and how often it tries again.

    Attributes:
        max_attempts: How often one request may be sent, the first time included.
        retry_share: How many further tries every request earns, on average; keeps tries from multiplying an
            overload. What moves from a server that went down to another one is not counted.
        keepalive_s: How long a connection with calls under way may be silent before the server is asked for a
            sign of life. A server that does not consent to pings cuts the connection; `sapiens serve`
            consents to one per 5 s. [s]
        keepalive_timeout_s: How long that sign may take. [s]
        resolve_every_s: How old the addresses of a name `dns:///...` may become while calls are made. [s]

    Raises:
        InvalidInputError: A number is not positive, or the share is negative.
    """

    max_attempts: int = 4
    retry_share: float = 0.2
    keepalive_s: float = 10.0
    keepalive_timeout_s: float = 2.0
    resolve_every_s: float = 4.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.retry_share < 0:
            raise InvalidInputError(f"max_attempts must be at least 1 and retry_share at least 0, got {self}")
        if min(self.keepalive_s, self.keepalive_timeout_s, self.resolve_every_s) <= 0:
            raise InvalidInputError(f"periods of ClientOptions must be above 0 seconds, got {self}")


DEFAULTS = ClientOptions()
