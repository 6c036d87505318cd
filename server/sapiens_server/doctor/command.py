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

from sapiens_core.option_groups import with_option_groups
from sapiens_server.doctor.checks import Question, diagnosis
from sapiens_server.doctor.findings import Finding
from sapiens_server.options import Endpoints, Health

_FORMAT = 1
_FILE_WIDTH = 160  # columns of a table that goes into a file or a pipe
_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}


@with_option_groups
def doctor_command(
    repository: Annotated[str, typer.Option(help="Folder of models that is to be served.")] = "models",
    *,
    endpoints: Endpoints,
    health: Health,
    as_json: Annotated[bool, typer.Option("--json", help="For programs and support tickets.")] = False,
) -> None:
    """Look at this machine and installation: what would keep `sapiens serve` from serving, and what to do.

    Exit status: 0 nothing would; 1 something would.
    """
    asked = {
        "grpc": (endpoints.host, endpoints.grpc_port),
        "http": (endpoints.host, endpoints.http_port),
        "metrics": (endpoints.host, endpoints.metrics_port),
        "health": (health.health_host, health.health_port),
    }
    places = {service: (host, port) for service, (host, port) in asked.items() if port is not None}
    findings = diagnosis(Question(repository, endpoints.host, places))
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
