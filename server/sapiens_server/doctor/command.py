"""`sapiens doctor`: what is wrong with this machine or installation, and what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sapiens_server.doctor.checks import Question, diagnosis
from sapiens_server.doctor.findings import Finding

_FORMAT = 1
_FILE_WIDTH = 160  # columns of a table that goes into a file or a pipe
_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}


def doctor_command(
    repository: Annotated[str, typer.Option(help="Folder of models that is to be served.")] = "models",
    host: Annotated[str, typer.Option(help="Address that it is to be served at.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(help="Port for clients.", min=0, max=65535)] = 8001,
    http_port: Annotated[int | None, typer.Option(help="Port of HTTP.", min=0, max=65535)] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of the metrics.", min=0, max=65535)] = None,
    health_port: Annotated[
        int | None, typer.Option(help="Port of /live and /ready.", min=0, max=65535)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs and support tickets.")] = False,
) -> None:
    """Look at this machine and installation: what would keep `sapiens serve` from serving, and what to do.

    Exit status: 0 nothing would; 1 something would.
    """
    asked = {"grpc": grpc_port, "http": http_port, "metrics": metrics_port, "health": health_port}
    ports = {service: port for service, port in asked.items() if port is not None}
    findings = diagnosis(Question(repository, host, ports))
    can_serve = all(finding.level != "error" for finding in findings)
    if as_json:
        told = {"format": _FORMAT, "can_serve": can_serve, "findings": [asdict(each) for each in findings]}
        typer.echo(json.dumps(told, indent=2))
    else:
        _show(findings)
    raise typer.Exit(0 if can_serve else 1)


def _show(findings: Sequence[Finding]) -> None:
    table = Table("", "topic", "seen", "what to do")
    for finding in findings:
        level = Text(finding.level, _STYLES[finding.level])
        table.add_row(level, finding.topic, Text(finding.seen), Text(finding.advice))
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(table)
