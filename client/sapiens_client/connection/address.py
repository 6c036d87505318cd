"""What may be the address of a server: gRPC itself takes anything, and finds out late or never."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sapiens_client.errors import InvalidInputError

_MAX_PORT = 2**16 - 1
_HOST_AND_PORT = re.compile(r"(?P<host>[^\s:/@?#\[\],]+|\[[\w:.%]+\]):(?P<port>[0-9]{1,5})")
_NAME_TO_RESOLVE = re.compile(r"dns:(?:///)?(?=[^/])(?P<rest>\S+)")
_GRPC_TARGET = re.compile(r"(?:ipv4|ipv6|unix|unix-abstract|vsock|xds):\S+|dns://[^\s,/]+/[^\s,/]+")


@dataclass(frozen=True)
class Target:
    """Where one server is, or several behind one name.

    Attributes:
        url: As it was given.
        host: Name or number of the machine; None in targets that only gRPC reads.
        port: Its port; 0 in those.
        is_resolved: Whether the name stands for all addresses that the system knows for it, one server each.
    """

    url: str
    host: str | None = None
    port: int = 0
    is_resolved: bool = False

    @property
    def is_loopback(self) -> bool:
        """Whether nothing that is sent there leaves this machine."""
        if self.host is None:
            return self.url.startswith("unix")
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"


def checked_targets(url: str | Sequence[str]) -> tuple[Target, ...]:
    """Return the addresses of servers, each once.

    Args:
        url: One address, several with commas between them, or a sequence. An address is `host:port`, where an
            IPv6 address stands in brackets, `dns:///host:port` for all addresses of a name, or another target
            that gRPC knows, such as `unix:/path`.

    Raises:
        InvalidInputError: One is no such thing, or there is none. gRPC would connect to port 443 where there
            is no port, and to another port than the one given where that is too large.
    """
    urls: Sequence[object] = [url]
    if isinstance(url, str) and "," in url and not _GRPC_TARGET.fullmatch(url):
        urls = [part.strip() for part in url.split(",")]
    elif isinstance(url, Sequence) and url and not isinstance(url, str | bytes):
        urls = url
    return tuple(dict.fromkeys(map(_target, urls)))


def is_loopback(address: str) -> bool:
    """Return whether nothing that is sent to an address leaves this machine."""
    return _target(address).is_loopback


def _target(url: object) -> Target:
    if isinstance(url, str):
        name = _NAME_TO_RESOLVE.fullmatch(url)
        host_and_port = _HOST_AND_PORT.fullmatch(name["rest"] if name else url)
        if host_and_port and 1 <= int(host_and_port["port"]) <= _MAX_PORT:
            return Target(url, host_and_port["host"], int(host_and_port["port"]), is_resolved=bool(name))
        if host_and_port is None and not name and _GRPC_TARGET.fullmatch(url):
            return Target(url)
    raise InvalidInputError(
        "url must be host:port of the server's gRPC service, without http:// and with a port of "
        f"1..{_MAX_PORT}, got {url!r}; with `sapiens serve` it is localhost:8001"
    )
