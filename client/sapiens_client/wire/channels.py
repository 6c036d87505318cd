"""How channels to endpoints are opened, for threads and for event loops alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grpc

from sapiens_client.errors import ClientClosedError
from sapiens_client.steps import CLOSED_SENTENCE, RpcFailure
from sapiens_client.version import sdk_version

if TYPE_CHECKING:
    from sapiens_client.connection.options import Compression
    from sapiens_client.connection.settings import Settings
    from sapiens_client.steps import Endpoint

SERVICE = "/inference.GRPCInferenceService/"

_OPTIONS: tuple[tuple[str, Any], ...] = (
    # With http_proxy set gRPC would send even the requests to this machine through the proxy.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # In fact the time limit for connecting, by default 20 s; it ends waiting for a port that stays silent.
    ("grpc.min_reconnect_backoff_ms", 5000),
    # Between attempts to connect calls fail at once, by default for up to 2 minutes after a server is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Its retries see statuses only, and Triton's do not tell an overload from an absent server.
    ("grpc.enable_retries", 0),
    ("grpc.http2.max_pings_without_data", 0),
)

_COMPRESSIONS: Mapping[Compression, int] = {
    "none": grpc.Compression.NoCompression,
    "deflate": grpc.Compression.Deflate,
    "gzip": grpc.Compression.Gzip,
}


def channel_options(settings: Settings, endpoint: Endpoint) -> list[tuple[str, Any]]:
    """Return how to open the channel to an endpoint."""
    timeout_ms = round(settings.options.keepalive_timeout_s * 1e3)
    options = [
        *_OPTIONS,
        ("grpc.primary_user_agent", f"sapiens-client/{sdk_version()}"),
        ("grpc.default_compression_algorithm", _COMPRESSIONS[settings.options.compression]),
    ]
    if endpoint.takes_pings:
        options += [
            ("grpc.keepalive_time_ms", round(settings.options.keepalive_s * 1e3)),
            ("grpc.keepalive_timeout_ms", timeout_ms),
            # Without it a server that hangs is noticed after a minute.
            ("grpc.http2.ping_timeout_ms", timeout_ms),
        ]
    server_name = settings.server_name or endpoint.server_name
    if server_name and settings.pems:
        options.append(("grpc.ssl_target_name_override", server_name))
    return list({**dict(options), **dict(settings.options.channel_options)}.items())


def channel_credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """Return certificates and key as gRPC wants them; None: connections are not encrypted."""
    if settings.pems is None:
        return None
    pems = settings.pems
    return grpc.ssl_channel_credentials(pems.root_certificates, pems.client_key, pems.client_certificate)


def closed_error(failure: RpcFailure) -> ClientClosedError:
    """Return the error that the client was closed while a flow waited."""
    return ClientClosedError(CLOSED_SENTENCE.format(text=failure.text))


def whole(reply: bytes | None) -> bytes:
    """Return a reply.

    Raises:
        RpcFailure: It broke off, which gRPC calls a success without a message.
    """
    if reply is None:
        raise RpcFailure("UNAVAILABLE", "a reply that breaks off")
    return bytes(reply)
