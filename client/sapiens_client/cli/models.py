"""`sapiens models`: what a server serves."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from math import isnan
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sapiens_client.cli.connection import Connection

if TYPE_CHECKING:
    from sapiens_client.results.models import ModelCard

_COLUMNS = ("model", "network", "labels", "engine", "parity", "queue, compute", "licence")
_FILE_WIDTH = 160  # columns of a table that goes into a file or a pipe


def models_command(
    *,
    connection: Connection,
    wait_s: Annotated[
        float | None, typer.Option("--wait", help="Seconds to wait for the server first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell what the server serves: networks, engines, licences, and the mean times of their steps."""
    with connection.client(timeout_s=60.0) as client:
        if wait_s is not None:
            client.wait_until_ready(timeout_s=wait_s)
        cards = client.models()
    if as_json:
        typer.echo(json.dumps([_facts(card) for card in cards.values()], indent=2))
        return
    table = Table(*_COLUMNS)
    for card in cards.values():
        table.add_row(*_row(card))
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(table)


def _row(card: ModelCard) -> tuple[str, ...]:
    info = card.info
    labels = f"{len(card.labels)} {info.labels}".strip() if card.labels else ""
    parity = "\n".join(f"{name} {value:.2g}" for name, value in card.parity.items())
    queue_s = sum(load.queue_s for load in card.steps.values())
    compute_s = sum(load.compute_s for load in card.steps.values())
    times = "" if isnan(queue_s) or not card.steps else f"{queue_s * 1e3:.1f}, {compute_s * 1e3:.1f} ms"
    licence = f"{info.licence} (untrained)" if info.untrained else info.licence
    engine = f"{info.runtime} {info.precision}"
    return card.name, f"{info.family} {info.size}", labels, engine, parity, times, licence


def _facts(card: ModelCard) -> dict[str, object]:
    """Return a card as plain data; None stands for what is no number, which JSON has not."""
    steps = {
        name: {key: None if isnan(value) else value for key, value in asdict(load).items()}
        for name, load in card.steps.items()
    }
    return {**asdict(card), "steps": steps}
