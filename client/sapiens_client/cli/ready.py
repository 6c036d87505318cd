"""`sapiens ready`: for probes and scripts."""

from __future__ import annotations

from typing import Annotated

import typer

from sapiens_client.cli.connection import Connection


def ready_command(
    *,
    connection: Connection,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Seconds to wait until one is ready; at least one is asked.")
    ] = 1.0,
) -> None:
    """Tell whether a server answers and all its models are loaded.

    Exit status: 0 it does; 1 none was ready in time, and why; 2 wrong usage.
    """
    with connection.client(timeout_s) as client:
        client.wait_until_ready(timeout_s=timeout_s)
    typer.echo("ready")
