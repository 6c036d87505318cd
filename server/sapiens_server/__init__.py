"""Run Triton Inference Server on a model repository."""

from sapiens_server.errors import (
    AddressError,
    PortInUseError,
    RepositoryError,
    ServerDiedError,
    ServerError,
    ServerNotFoundError,
    ServerStartError,
)
from sapiens_server.repository import ModelControl
from sapiens_server.server import RunningServer, ServerOptions, serve

__all__ = [
    "AddressError",
    "ModelControl",
    "PortInUseError",
    "RepositoryError",
    "RunningServer",
    "ServerDiedError",
    "ServerError",
    "ServerNotFoundError",
    "ServerOptions",
    "ServerStartError",
    "serve",
]
