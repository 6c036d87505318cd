"""What may be the address of a server: gRPC itself takes anything, and finds out late or never."""

from __future__ import annotations

import re

from sapiens_client.errors import InvalidInputError

_MAX_PORT = 2**16 - 1
_HOST_AND_PORT = re.compile(r"(?:[^\s:/@?#\[\]]+|\[[\w:.%]+\]):(?P<port>[0-9]{1,5})")
_GRPC_TARGET = re.compile(r"(?:dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):\S+")


def checked_url(url: object) -> str:
    """Return the address of a gRPC service if it is one.

    Args:
        url: `host:port`, where an IPv6 address stands in brackets, or another target that gRPC knows, such as
            `dns:///host:port` or `unix:/path`.

    Raises:
        InvalidInputError: It is neither. gRPC would connect to port 443 where there is no port, and to
            another port than the one given where that is too large.
    """
    if isinstance(url, str):
        host_and_port = _HOST_AND_PORT.fullmatch(url)
        if host_and_port and 1 <= int(host_and_port["port"]) <= _MAX_PORT:
            return url
        if host_and_port is None and _GRPC_TARGET.fullmatch(url):
            return url
    raise InvalidInputError(
        "url must be host:port of the server's gRPC service, without http:// and with a port of "
        f"1..{_MAX_PORT}, got {url!r}; with `sapiens serve` it is localhost:8001"
    )
