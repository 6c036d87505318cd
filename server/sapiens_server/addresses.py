"""Where a server listens, and whether it answers there."""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from sapiens_server.errors import AddressError, PortInUseError

_SERVICE = "/inference.GRPCInferenceService/"
_YES = b"\x08\x01"  # ServerReadyResponse { ready: true }


@dataclass(frozen=True)
class Addresses:
    """Addresses of one server, "host:port"; None: that service is off."""

    grpc: str
    http: str | None
    metrics: str | None

    def arguments(self) -> list[str]:
        """Return the command line that makes tritonserver listen here and nowhere else."""
        arguments = []
        for service, address in (("grpc", self.grpc), ("http", self.http), ("metrics", self.metrics)):
            if address is None:
                arguments.append(f"--allow-{service}=false")
            else:
                host, _, port = address.rpartition(":")
                arguments += [f"--{service}-address={host}", f"--{service}-port={port}"]
        return arguments

    def are_ready(self, server_id: str) -> bool:
        """Return whether every service accepts connections and this very server has loaded all models."""
        wanted = [address for address in (self.grpc, self.http, self.metrics) if address is not None]
        return all(_accepts(address) for address in wanted) and _says_ready(self.grpc, server_id)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def free_addresses(host: str, grpc_port: int, http_port: int | None, metrics_port: int | None) -> Addresses:
    """Choose the ports that are 0, and check that all are free: the server notices a taken metrics port late.

    Args:
        host: IPv4 address or name of this machine.
        grpc_port: Port for gRPC.
        http_port: Port for HTTP; None: off.
        metrics_port: Port for metrics; None: off.

    Raises:
        PortInUseError: A port is taken.
        AddressError: This machine does not have that address, or may not use that port.
    """
    with ExitStack() as listeners:  # open together, so that no port is chosen twice
        return Addresses(
            grpc=_free(listeners, host, grpc_port, "grpc"),
            http=None if http_port is None else _free(listeners, host, http_port, "http"),
            metrics=None if metrics_port is None else _free(listeners, host, metrics_port, "metrics"),
        )


def free_address(host: str, port: int, service: str) -> str:
    """Return the address of one free port, as `free_addresses` does for several.

    Args:
        host: IPv4 address or name of this machine.
        port: The port; 0: any free one.
        service: What is to listen there, as in the options --SERVICE-port.

    Raises:
        PortInUseError: The port is taken.
        AddressError: This machine does not have that address, or may not use that port.
    """
    with ExitStack() as listeners:
        return _free(listeners, host, port, service)


def _free(listeners: ExitStack, host: str, port: int, service: str) -> str:
    try:
        listener = listeners.enter_context(socket.create_server((host, port)))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"{service}_port must be free, but {host}:{port} is taken; "
                f"choose another with --{service}-port (0: any free one)"
            ) from error
        raise AddressError(
            f"the server must be allowed to listen on an IPv4 address of this machine, got {host}:{port} "
            f"({error.strerror}); change --host or --{service}-port"
        ) from error
    address, port = listener.getsockname()  # a number where the host was a name, which not all services take
    return f"{address}:{port}"


def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _says_ready(address: str, server_id: str) -> bool:
    import grpc  # not before a server listens: importing it takes as long as loading small models

    # No proxy, and no connection that another client of this process has given up on.
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:

        def reply(method: str) -> bytes:
            call = channel.unary_unary(
                _SERVICE + method, request_serializer=bytes, response_deserializer=bytes
            )
            return bytes(call(b"", timeout=1))

        try:
            # Another server may have taken the port since it was found free.
            return server_id.encode() in reply("ServerMetadata") and reply("ServerReady") == _YES
        except grpc.RpcError:
            return False
