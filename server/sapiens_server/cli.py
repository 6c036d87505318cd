"""`sapiens serve`: a model repository in, a server that is kept running until it is interrupted."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sapiens_server.errors import ServerDiedError, ServerError
from sapiens_server.repository import ModelControl
from sapiens_server.server import RunningServer, ServerOptions
from sapiens_server.server_log import is_noteworthy
from sapiens_server.supervise.access import Access, TLSFiles
from sapiens_server.supervise.endpoint import HealthEndpoint
from sapiens_server.supervise.supervisor import Supervisor, Wanted

_START_REFUSED, _SERVER_LOST, _SIGNAL = 1, 3, 128
_ACCESS = "Access"


def serve_command(
    repository: Annotated[
        str,
        typer.Option(
            help="Folder that `sapiens export` wrote, or its copy in object storage, e.g. s3://bucket/models."
        ),
    ] = "models",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    grpc_port: Annotated[
        int, typer.Option(help="Port for clients; 0: any free one.", min=0, max=65535)
    ] = 8001,
    http_port: Annotated[
        int | None, typer.Option(help="Port of the HTTP API; off without.", min=0, max=65535)
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of the metrics; off without.", min=0, max=65535)
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            help="Port of /live, /ready and /metrics of this command; off without.", min=0, max=65535
        ),
    ] = None,
    health_host: Annotated[str, typer.Option(help="Address for the health port.")] = "127.0.0.1",
    model_control: Annotated[
        ModelControl,
        typer.Option(help="Load all models now (none), when told (explicit), or as files change (poll)."),
    ] = "none",
    startup_timeout: Annotated[
        float, typer.Option(help="Seconds that loading may stand still.", min=0)
    ] = 120.0,
    drain_seconds: Annotated[
        float, typer.Option(help="How long to go on serving after SIGTERM, at most.", min=0)
    ] = 20.0,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Encrypt gRPC: the server's certificate, PEM.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Private key of --tls-cert, PEM.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Serve only clients whose certificate one of these authorities has signed, PEM.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    admin_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="File with the key that changes of logs, traces and (if explicit) models want; without, "
            "nobody has it.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    client_shared_memory: Annotated[
        bool,
        typer.Option(
            "--client-shared-memory",
            help="Let clients on this machine pass large arrays through shared memory.",
            rich_help_panel=_ACCESS,
        ),
    ] = False,
    expose_bundled: Annotated[
        bool,
        typer.Option(
            "--expose-bundled",
            help="Let other hosts reach the bundled server, which they can crash.",
            rich_help_panel=_ACCESS,
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all that the server writes.")] = False,
) -> None:
    """Serve the models of a repository until SIGTERM or Ctrl-C, and start the server again when it fails.

    After SIGTERM /ready says no at once, while requests are served until none has come for two seconds;
    Ctrl-C finishes those under way. A second signal ends all at once.

    Exit status: 0 ended as asked; 1 the server could not be started; 2 wrong usage; 3 it failed and could not
    be started again; 130 or 143 ended by a second signal.
    """
    access = Access(_tls(tls_cert, tls_key, tls_client_ca), client_shared_memory, _key(admin_key_file))
    options = ServerOptions(model_control, startup_timeout, expose_bundled)
    console = Console(stderr=True)

    def show(line: str) -> None:
        if verbose or is_noteworthy(line):
            console.out(line, highlight=False)

    supervisor = Supervisor(
        Wanted(repository, host, grpc_port, http_port, metrics_port, options), access, drain_seconds, show
    )
    try:
        with ExitStack() as stack:
            health = None
            if health_port is not None:
                endpoint = HealthEndpoint(supervisor.health, health_host, health_port)
                health = stack.enter_context(endpoint).address
            status = stack.enter_context(console.status(f"loading the models of {repository}"))

            def announce(server: RunningServer) -> None:
                status.stop()
                typer.echo(_announcement(server, repository, health))

            supervisor.run(announce)
    except ServerError as error:
        console.out(f"error: {error}", highlight=False)
        raise typer.Exit(_SERVER_LOST if isinstance(error, ServerDiedError) else _START_REFUSED) from error
    except KeyboardInterrupt as error:
        numbers = supervisor.signals.numbers
        raise typer.Exit(0 if len(numbers) == 1 else _SIGNAL + numbers[-1]) from error


def _tls(certificate: Path | None, key: Path | None, client_authorities: Path | None) -> TLSFiles | None:
    if certificate and key:
        return TLSFiles(certificate, key, client_authorities)
    if certificate or key or client_authorities:
        raise typer.BadParameter("--tls-cert and --tls-key must be given together")
    return None


def _key(file: Path | None) -> str | None:
    if file is None:
        return None
    key = file.read_text(encoding="utf-8").strip()
    if not key.isascii() or not key.isprintable() or len(key.split()) != 1:
        raise typer.BadParameter("--admin-key-file must hold one word of ASCII")
    return key


def _announcement(server: RunningServer, repository: str, health: str | None) -> str:
    others = {"http": server.http_url, "metrics": server.metrics_url, "health": health}
    also = "".join(f", {name} {url}" for name, url in others.items() if url)
    return f"serving at {server.grpc_url}{also}: {', '.join(server.models) or _unlisted(repository)}"


def _unlisted(repository: str) -> str:
    return f"the models of {repository}" if "://" in repository else "no models yet"
