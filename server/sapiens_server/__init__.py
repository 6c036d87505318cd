"""Run Triton Inference Server on a model repository."""

from sapiens_server.errors import (
    AddressError,
    EngineError,
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
    "EngineError",
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
