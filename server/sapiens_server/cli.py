"""`sapiens serve`: a model repository in, a running server until it is interrupted."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from sapiens_server.errors import ServerError
from sapiens_server.repository import ModelControl
from sapiens_server.server import RunningServer, ServerOptions, serve
from sapiens_server.server_log import is_noteworthy

_SAME_SIGNAL_S = 1.0


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
    model_control: Annotated[
        ModelControl,
        typer.Option(help="Load all models now (none), when told (explicit), or as files change (poll)."),
    ] = "none",
    startup_timeout: Annotated[
        float, typer.Option(help="Seconds that loading may stand still.", min=0)
    ] = 120.0,
    expose_bundled: Annotated[
        bool,
        typer.Option(
            "--expose-bundled", help="Let other hosts reach the bundled server, which they can crash."
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all that the server writes.")] = False,
) -> None:
    """Serve the models of a repository until Ctrl-C or SIGTERM; a second one kills the server at once."""
    console = Console(stderr=True)
    interruptions = _interrupt_on_signals()

    def show(line: str) -> None:
        if verbose or is_noteworthy(line):
            console.out(line, highlight=False)

    try:
        with (
            console.status(f"loading the models of {repository}") as status,
            serve(
                repository,
                host=host,
                grpc_port=grpc_port,
                http_port=http_port,
                metrics_port=metrics_port,
                on_log=show,
                options=ServerOptions(model_control, startup_timeout, expose_bundled),
            ) as server,
        ):
            status.stop()
            typer.echo(_announcement(server, repository))
            server.wait()
    except ServerError as error:
        console.out(f"error: {error}", highlight=False)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(0 if len(interruptions) == 1 else 1) from error


def _announcement(server: RunningServer, repository: str) -> str:
    others = {"http": server.http_url, "metrics": server.metrics_url}
    also = "".join(f", {name} {url}" for name, url in others.items() if url)
    return f"serving at {server.grpc_url}{also}: {', '.join(server.models) or _unlisted(repository)}"


def _unlisted(repository: str) -> str:
    return f"the models of {repository}" if "://" in repository else "no models yet"


def _interrupt_on_signals() -> list[float]:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt: the first lets the server finish, the second kills it.

    Returns:
        The times at which they came, which grows.
    """
    times: list[float] = []

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        # Programs that run others, such as `timeout`, may deliver one signal twice.
        if not times or time.monotonic() - times[-1] > _SAME_SIGNAL_S:
            times.append(time.monotonic())
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    return times
