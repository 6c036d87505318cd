"""Who may ask a supervised server for what, as its command line says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sapiens_server.addresses import Addresses, is_loopback
from sapiens_server.errors import AddressError
from sapiens_server.repository import ModelControl
from sapiens_server.supervise.api import KEY_HEADER

_ALL_ROUTES = "health,metadata,inference,shared-memory,model-config,model-repository,statistics,trace,logging"
_CLIENT_SHARED_MEMORY_OFF = (2, 68)  # 26.04, by default from then on
# Clients that hold a connection for ever would never notice that a name stands for further servers.
_MAX_CONNECTION_AGE = "--grpc-max-connection-age=60000"


@dataclass(frozen=True)
class TLSFiles:
    """What gRPC is encrypted with, PEM files.

    Attributes:
        certificate: The server's.
        key: Its private key.
        client_authorities: Who must have signed clients' certificates; None: clients need none.
    """

    certificate: Path
    key: Path
    client_authorities: Path | None = None


@dataclass(frozen=True)
class Access:
    """Who may ask for what. Routes that change the server want a key, which nobody but its supervisor has.

    Attributes:
        tls: How gRPC is encrypted; None: not at all.
        client_shared_memory: Let clients hand over tensors in this machine's shared memory. A client that
            may do so can also reach the regions of others.
        admin_key: The key, for whoever shall change log and trace settings, or load models; None: a secret.
    """

    tls: TLSFiles | None = None
    client_shared_memory: bool = False
    admin_key: str | None = field(default=None, repr=False)

    def arguments(
        self, model_control: ModelControl, key: str, *, has_http: bool, release: tuple[int, int] | None
    ) -> Iterator[str]:
        """Return the command line that makes tritonserver keep to this.

        Args:
            model_control: How models are loaded.
            key: What restricted routes want to hear.
            has_http: Whether clients may use HTTP, too.
            release: Of tritonserver, e.g. (2, 51); None: unknown.
        """
        yield _MAX_CONNECTION_AGE
        routes = ",".join(self._restricted(model_control))
        yield f"--grpc-restricted-protocol={routes}:{KEY_HEADER}={key}"
        if has_http:
            yield f"--http-restricted-api={routes}:{KEY_HEADER}={key}"
        if self.client_shared_memory and release and release >= _CLIENT_SHARED_MEMORY_OFF:
            yield "--allow-client-shm=true"
        if self.tls:
            yield "--grpc-use-ssl=true"
            yield f"--grpc-server-cert={self.tls.certificate.absolute()}"
            yield f"--grpc-server-key={self.tls.key.absolute()}"
            if self.tls.client_authorities:
                yield "--grpc-use-ssl-mutual=true"
                yield f"--grpc-root-cert={self.tls.client_authorities.absolute()}"

    def _restricted(self, model_control: ModelControl) -> Iterator[str]:
        # What is served, its configs and statistics are open: clients read them, and they change nothing.
        yield from ("trace", "logging")
        if not self.client_shared_memory:
            yield "shared-memory"
        if model_control == "explicit" and self.admin_key:
            yield "model-repository"


def check_access(access: Access, host: str, model_control: ModelControl) -> None:
    """Refuse what would let strangers run code.

    Raises:
        AddressError: They could.
    """
    if model_control == "explicit" and not access.admin_key and not is_loopback(host):
        raise AddressError(
            "a server whose clients may load models, and with them code, must listen on loopback or want a "
            f"key, got host {host!r}; give --admin-key-file, or another --model-control"
        )


def private_arguments(addresses: Addresses, key: str, *, http: bool, metrics: bool) -> Iterator[str]:
    """Return the command line for services that only the supervisor uses.

    Args:
        addresses: Where they listen, on loopback.
        key: What every route of HTTP wants to hear, before the server looks at a request.
        http: Whether HTTP is private, because clients have none.
        metrics: Whether the metrics are private.
    """
    if http:
        yield f"--http-restricted-api={_ALL_ROUTES}:{KEY_HEADER}={key}"
    for service, address in (("http", http and addresses.http), ("metrics", metrics and addresses.metrics)):
        if address:
            host, _, port = address.rpartition(":")
            yield from (
                f"--allow-{service}=true",
                f"--{service}-address={host}",
                f"--{service}-port={port}",
            )
