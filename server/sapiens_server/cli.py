"""`sapiens serve`: a model repository in, a server that is kept running until it is interrupted."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from sapiens_core.option_groups import with_option_groups
from sapiens_server.errors import ServerDiedError, ServerError
from sapiens_server.json_log import json_line
from sapiens_server.options import Admission, Endpoints, Health, Run, Tracing
from sapiens_server.server import RunningServer
from sapiens_server.server_log import is_noteworthy
from sapiens_server.supervise.endpoint import HealthEndpoint
from sapiens_server.supervise.supervisor import Supervisor, Wanted

_START_REFUSED, _SERVER_LOST, _SIGNAL = 1, 3, 128


@with_option_groups
def serve_command(
    repository: Annotated[
        str,
        typer.Option(
            help="Folder that `sapiens export` wrote, or its copy in object storage, e.g. s3://bucket/models."
        ),
    ] = "models",
    *,
    endpoints: Endpoints,
    health: Health,
    run: Run,
    tracing: Tracing,
    admission: Admission,
) -> None:
    """Serve the models of a repository until SIGTERM or Ctrl-C, and start the server again when it fails.

    After SIGTERM /ready says no at once, while requests are served until none has come for two seconds;
    Ctrl-C finishes those under way. A second signal ends all at once.

    Exit status: 0 ended as asked; 1 the server could not be started; 2 wrong usage; 3 it failed and could not
    be started again; 130 or 143 ended by a second signal.
    """
    access = admission.access()
    console = Console(stderr=True)

    is_json = run.log_format == "json"

    def write(line: str) -> None:
        console.out(json_line(line) if is_json else line, highlight=False)

    def show(line: str) -> None:
        if run.verbose or is_noteworthy(line):
            write(line)

    options = replace(run.options(), arguments=tracing.arguments())
    supervisor = Supervisor(
        Wanted(repository, **vars(endpoints), options=options), access, run.drain_seconds, show
    )
    try:
        with ExitStack() as stack:
            address = None
            if health.health_port is not None:
                endpoint = HealthEndpoint(supervisor.health, health.health_host, health.health_port)
                address = stack.enter_context(endpoint).address
            status = stack.enter_context(console.status(f"loading the models of {repository}"))

            def announce(server: RunningServer) -> None:
                status.stop()
                typer.echo((_json_announcement if is_json else _announcement)(server, repository, address))

            supervisor.run(announce)
    except ServerError as error:
        write(f"error: {error}")
        raise typer.Exit(_SERVER_LOST if isinstance(error, ServerDiedError) else _START_REFUSED) from error
    except KeyboardInterrupt as error:
        numbers = supervisor.signals.numbers
        raise typer.Exit(0 if len(numbers) == 1 else _SIGNAL + numbers[-1]) from error


def _json_announcement(server: RunningServer, repository: str, health: str | None) -> str:
    models = server.models or [_unlisted(repository)]
    return json_line("note: serving", grpc=server.grpc_url, **_others(server, health), models=models)


def _others(server: RunningServer, health: str | None) -> dict[str, str | None]:
    return {"http": server.http_url, "metrics": server.metrics_url, "health": health}


def _announcement(server: RunningServer, repository: str, health: str | None) -> str:
    others = _others(server, health)
    also = "".join(f", {name} {url}" for name, url in others.items() if url)
    return f"serving at {server.grpc_url}{also}: {', '.join(server.models) or _unlisted(repository)}"


def _unlisted(repository: str) -> str:
    return f"the models of {repository}" if "://" in repository else "no models yet"
