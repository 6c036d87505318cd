"""`sapiens demo`: a server's address in, a page in the browser."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from types import FrameType
from typing import Annotated, NoReturn

import typer

from sapiens_client.cli.commands import with_connection
from sapiens_client.cli.connection import Connection

_LOOK_S = 2.0


def _demo(
    *,
    connection: Connection,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's let strangers use the page.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(help="Port of the page.", min=1, max=65535, show_default="the first free one from 7860"),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds that one picture may take.")] = 60.0,
) -> None:
    """Open a page on this machine that asks a server about pictures and videos.

    Without --url and SAPIENS_URL it asks the server at localhost:8001, and where there is none, one of its
    own with the demo networks (extras server and export), which the first time takes a minute. Ctrl-C ends
    both. What is uploaded is forgotten after half an hour and at the end, and goes nowhere else.

    Exit status: 0 ended as asked; 1 an extra is missing, the port is taken, or there is no server; 2 wrong
    usage.
    """
    with ExitStack() as held:
        held.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, _interrupt))
        held.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _interrupt))
        try:
            _show(held, connection, host, port, timeout_s)
        except KeyboardInterrupt:
            return


def _show(held: ExitStack, connection: Connection, host: str, port: int | None, timeout_s: float) -> None:
    """Show the page until it is interrupted.

    Raises:
        KeyboardInterrupt: It was.
        OSError: The page cannot have the port.
    """
    _check_port(host, port)
    # Gradio reads them when it is loaded; files of the page are in a folder that ends with it.
    folder = held.enter_context(tempfile.TemporaryDirectory(prefix="sapiens_demo_"))
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": folder, **_no_proxy(host)}
    try:
        from sapiens_demo.page import opened, page
    except ModuleNotFoundError as error:
        raise SystemExit(f"sapiens demo needs {error.name}: pip install 'sapiens-triton[demo]'") from error
    client = held.enter_context(_addressed(held, connection).client(timeout_s))
    address = held.enter_context(opened(page(client), host, port))
    typer.echo(f"the page is at {address}")
    while True:
        signal.pause()


def _check_port(host: str, port: int | None) -> None:
    """Refuse what the page cannot listen on before a server is started for it.

    Raises:
        OSError: The port is taken, or the address is none of this machine's.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a page that has just ended is gone
            tried.bind(address)
    except OSError as error:
        raise OSError(
            f"the page must have a free port at {host}, got {error.strerror!r} for {port or 'all'}; choose "
            "another with --port or --host"
        ) from error


def _no_proxy(host: str) -> dict[str, str]:
    """Return variables by which gradio looks at its own page without the proxies of this network."""
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    names = ",".join(filter(None, (before, "localhost", "127.0.0.1", host)))
    return {"no_proxy": names, "NO_PROXY": names}


def _addressed(held: ExitStack, connection: Connection) -> Connection:
    """Return a connection to the server that is named or at the default address, else to one of its own."""
    if connection.url or os.environ.get("SAPIENS_URL"):
        return connection
    with connection.client(_LOOK_S) as client:
        if client.ready(timeout_s=_LOOK_S):
            return connection
    from sapiens_demo.own_server import demo_networks

    typer.echo("no server at localhost:8001: starting one with the demo networks", err=True)
    return replace(connection, url=held.enter_context(demo_networks()))


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # `timeout` may deliver it twice, also into the cleaning up
    raise KeyboardInterrupt


demo_command = with_connection(_demo)
