"""What `sapiens serve` may be told; the options' own help describes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from sapiens_core.contract.limits import LIMITS, MAX_PIXELS_VARIABLE
from sapiens_server.repository import ModelControl
from sapiens_server.server import ServerOptions
from sapiens_server.supervise.access import Access, TLSFiles

_port = partial(typer.Option, min=0, max=65535)
_trace = partial(typer.Option, rich_help_panel="Traces")
_access = partial(typer.Option, rich_help_panel="Access")
_file = partial(_access, metavar="FILE", exists=True, dir_okay=False)


@dataclass(frozen=True)
class Endpoints:
    """Where the server listens."""

    host: Annotated[str, typer.Option(help="Address to listen on.", envvar="SAPIENS_HOST")] = "127.0.0.1"
    grpc_port: Annotated[
        int, _port(help="Port for clients; 0: any free one.", envvar="SAPIENS_GRPC_PORT")
    ] = 8001
    http_port: Annotated[
        int | None, _port(help="Port of the HTTP API; off without.", envvar="SAPIENS_HTTP_PORT")
    ] = None
    metrics_port: Annotated[
        int | None, _port(help="Port of the metrics; off without.", envvar="SAPIENS_METRICS_PORT")
    ] = None


@dataclass(frozen=True)
class Health:
    """Where this command tells how the server is."""

    health_port: Annotated[
        int | None,
        _port(
            help="Port of /live, /ready and /metrics of this command; off without.",
            envvar="SAPIENS_HEALTH_PORT",
        ),
    ] = None
    health_host: Annotated[
        str, typer.Option(help="Address for the health port.", envvar="SAPIENS_HEALTH_HOST")
    ] = "127.0.0.1"


@dataclass(frozen=True)
class Run:
    """How the server is run."""

    model_control: Annotated[
        ModelControl,
        typer.Option(help="Load all models now (none), when told (explicit), or as files change (poll)."),
    ] = "none"
    startup_timeout: Annotated[float, typer.Option(help="Seconds that loading may stand still.", min=0)] = (
        120.0
    )
    drain_seconds: Annotated[
        float, typer.Option(help="How long to go on serving after SIGTERM, at most.", min=0)
    ] = 20.0
    max_image_pixels: Annotated[
        int | None,
        typer.Option(
            help="Refuse images of more pixels; less memory is needed.  "
            f"[default: {LIMITS.max_image_pixels}]",
            envvar=MAX_PIXELS_VARIABLE,
            min=1,
            max=LIMITS.max_image_pixels,
        ),
    ] = None
    expose_bundled: Annotated[
        bool,
        _access("--expose-bundled", help="Let other hosts reach the bundled server, which they can crash."),
    ] = False
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all that the server writes.")] = False
    log_format: Annotated[
        Literal["text", "json"], typer.Option(help="Write the log for people, or a JSON object per line.")
    ] = "text"

    def options(self) -> ServerOptions:
        """Return what the server is started with."""
        return ServerOptions(
            self.model_control,
            self.startup_timeout,
            self.expose_bundled,
            max_image_pixels=self.max_image_pixels,
        )


@dataclass(frozen=True)
class Tracing:
    """Whom the server tells of single requests."""

    trace_url: Annotated[
        str | None,
        _trace(
            metavar="URL",
            help="Send spans of requests to this collector, by OTLP over HTTP, such as "
            "http://collector:4318/v1/traces. Requests that come with a trace are traced.",
        ),
    ] = None
    trace_every: Annotated[
        int, _trace(help="Trace one in so many of the other requests, too; 0: none.", min=0)
    ] = 0

    def arguments(self) -> tuple[str, ...]:
        """Return the command line that makes tritonserver do so."""
        if self.trace_url is None:
            return ()
        settings = (
            "mode=opentelemetry",
            f"opentelemetry,url={self.trace_url}",
            "opentelemetry,resource=service.name=sapiens",
            "level=TIMESTAMPS",
            f"rate={self.trace_every}",
        )
        return tuple(f"--trace-config={setting}" for setting in settings)


@dataclass(frozen=True)
class Admission:
    """Who may reach the server, and how."""

    tls_cert: Annotated[Path | None, _file(help="Encrypt gRPC: the server's certificate, PEM.")] = None
    tls_key: Annotated[Path | None, _file(help="Private key of --tls-cert, PEM.")] = None
    tls_client_ca: Annotated[
        Path | None,
        _file(help="Serve only clients whose certificate one of these authorities has signed, PEM."),
    ] = None
    admin_key_file: Annotated[
        Path | None,
        _file(
            help="File with the key to change log and trace settings and (if explicit) load models; without, "
            "nobody has it."
        ),
    ] = None
    client_shared_memory: Annotated[
        bool,
        _access(
            "--client-shared-memory",
            help="Let clients on this machine pass large arrays through shared memory.",
        ),
    ] = False

    def access(self) -> Access:
        """Return what the server is guarded with.

        Raises:
            typer.BadParameter: The files are not those that are needed.
        """
        return Access(self._tls(), self.client_shared_memory, self._key())

    def _tls(self) -> TLSFiles | None:
        if self.tls_cert and self.tls_key:
            return TLSFiles(self.tls_cert, self.tls_key, self.tls_client_ca)
        given = {
            "--tls-cert": self.tls_cert,
            "--tls-key": self.tls_key,
            "--tls-client-ca": self.tls_client_ca,
        }
        if names := [name for name, file in given.items() if file]:
            raise typer.BadParameter(
                f"--tls-cert and --tls-key must be given together, got only {', '.join(names)}; give both"
            )
        return None

    def _key(self) -> str | None:
        if self.admin_key_file is None:
            return None
        key = self.admin_key_file.read_text(encoding="utf-8").strip()
        if not key.isascii() or not key.isprintable() or len(key.split()) != 1:
            raise typer.BadParameter(
                f"--admin-key-file must hold one word of ASCII, got {len(key.split())} words of {len(key)} "
                f"characters in {str(self.admin_key_file)!r}; write one, such as `openssl rand -hex 32` tells"
            )
        return key
