"""What a client is told about servers, checked before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sapiens_client.connection.address import Target, checked_targets
from sapiens_client.connection.identity import TLS, Identity, Pems, Token, check_privacy, read_pems
from sapiens_client.connection.options import ClientOptions
from sapiens_client.errors import InvalidInputError

DEFAULT_URL = "localhost:8001"


@dataclass(frozen=True)
class Settings:
    """What sessions and transports need to know.

    Attributes:
        targets: Where servers are.
        identity: What tells them who asks.
        pems: Certificates and key; None: connections are not encrypted.
        server_name: Name in the server's certificate; None: that of the address.
        options: The rarer choices.
    """

    targets: tuple[Target, ...]
    identity: Identity
    pems: Pems | None
    server_name: str | None
    options: ClientOptions

    @property
    def is_loopback(self) -> bool:
        """Whether all servers are on this machine."""
        return all(target.is_loopback for target in self.targets)

    @property
    def has_loopback(self) -> bool:
        """Whether some server is on this machine."""
        return any(target.is_loopback for target in self.targets)

    def checked_headers(self, headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Return further headers as they are sent.

        Raises:
            InvalidInputError: One cannot be sent, or would travel in the open.
        """
        identity = Identity(None, headers)
        if self.pems is None and not self.options.plaintext_secrets:
            check_privacy(self.targets, identity)
        return identity.headers


def chosen_url(url: str | Sequence[str] | None) -> str | Sequence[str]:
    """Return addresses; None stands for those in SAPIENS_URL, else localhost:8001."""
    return (os.environ.get("SAPIENS_URL") or DEFAULT_URL) if url is None else url


def checked_settings(
    url: str | Sequence[str] | None,
    tls: bool | TLS,
    token: Token | None,
    headers: Mapping[str, str] | None,
    options: ClientOptions,
) -> Settings:
    """Check what a client was given, and read its certificates.

    Args:
        url: Addresses; None: those in SAPIENS_URL, else localhost:8001.
        tls: Whether to encrypt, or how.
        token: What to send as "Bearer TOKEN"; None: what SAPIENS_TOKEN says, else nothing.
        headers: What else to send.
        options: The rarer choices.

    Raises:
        InvalidInputError: One of them cannot be used, or secrets would travel in the open.
    """
    if token is None:
        token = os.environ.get("SAPIENS_TOKEN") or None
    if not isinstance(tls, bool | TLS):
        raise InvalidInputError(f"tls must be True, False or a TLS(...), got {type(tls).__name__}")
    if not isinstance(options, ClientOptions):
        raise InvalidInputError(f"options must be ClientOptions(...), got {type(options).__name__}")
    chosen = TLS() if tls is True else tls or None
    settings = Settings(
        targets=checked_targets(chosen_url(url)),
        identity=Identity(token, headers),
        pems=read_pems(chosen) if chosen else None,
        server_name=chosen.server_name if chosen else None,
        options=options,
    )
    if chosen is None and not options.plaintext_secrets:
        check_privacy(settings.targets, settings.identity)
    return settings
