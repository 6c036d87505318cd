"""Words for whoever runs a command; nobody has to listen, and no work is lost where nobody does."""

from __future__ import annotations

import os
import sys
from typing import TextIO

import typer

_STANDARD_STREAMS = 3


def open_streams() -> None:
    """Open the standard streams that were closed: what is opened next must not be taken for one of them."""
    while (number := os.open(os.devnull, os.O_RDWR)) < _STANDARD_STREAMS:
        pass
    os.close(number)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def show(path: object) -> None:
    """Print a result's path on standard output."""
    try:
        typer.echo(path)
    except OSError as error:
        _silence(sys.stdout)
        tell(f"standard output cannot be written ({error}); the results are written all the same")


def tell(words: str) -> None:
    """Print words on standard error."""
    try:
        typer.echo(words, err=True)
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Let nobody hear what is still to be said; what waits in the stream would fail again at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
