"""`sapiens verify`: are the engines of a repository what their networks are, on this machine?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from sapiens_core.contract.folders import model_folders
from sapiens_server.engines import is_bundled_server, refusals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sapiens_export.parity.verify import Verification

_MISSING_EXTRA = "sapiens verify needs {name}: pip install 'sapiens-triton[export]'"
_FOR_ANOTHER = (
    "note: {} cannot be served here, as the only tritonserver at hand is the bundled one, which runs python "
    "engines alone; serve them in NVIDIA's Triton container"
)


def verify_command(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that `sapiens export` wrote.")
    ] = Path("models"),
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        typer.Option(help="Where the engines run; default: the GPU if there is one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The reports for programs.")] = False,
) -> None:
    """Run the engines of a repository on fixed images, and compare them with their float32 networks.

    What the networks answered is kept beside the engines, so neither checkpoints nor the machine that
    exported are needed. Exit status: 0 all engines are as close as they must be, 1 one is not, or cannot run
    here, also where the tritonserver at hand lacks what it needs. The bundled tritonserver runs python
    engines alone: that it cannot run others is only noted.
    """
    console = Console(stderr=True, highlight=False)
    try:
        from sapiens_export.engines.engine import check_device
        from sapiens_export.parity.verify import (
            Verification,
            broken_models,
            engine_folders,
            outdated_models,
            unfit_ensembles,
            verifications,
        )
    except ModuleNotFoundError as error:
        console.print(_MISSING_EXTRA.format(name=error.name), markup=False)
        raise typer.Exit(1) from error
    try:
        check_device(device)
        folders = engine_folders(repository)
        outdated = outdated_models(repository)
    except (ValueError, OSError, RuntimeError) as error:
        console.print(f"sapiens verify: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        outcomes = list(
            progress.track(verifications(folders, device), total=len(folders), description="verify")
        )
    refused = refusals(repository, [folder.name for folder in folders])
    if for_another := _for_another_server(outcomes, refused):
        console.print(_FOR_ANOTHER.format(", ".join(for_another)), markup=False, soft_wrap=True)
    problems = {name: why for name, why in refused.items() if name not in for_another} | outdated
    outcomes = [
        replace(outcome, problem=outcome.problem or problems.get(outcome.model, "")) for outcome in outcomes
    ]
    engines = {outcome.model for outcome in outcomes}
    outcomes += [Verification(name, problem=why) for name, why in outdated.items() if name not in engines]
    outcomes += broken_models(repository) + unfit_ensembles(repository)
    if left_out := model_folders(repository).left_out():
        console.print(
            f"note: no models in {repository}: {left_out}; `sapiens serve` leaves them out, tritonserver "
            "alone does not start",
            markup=False,
            soft_wrap=True,
        )
    if as_json:
        typer.echo(json.dumps([outcome.to_json() for outcome in outcomes], indent=2, allow_nan=False))
    else:
        Console(soft_wrap=True).print(_table(outcomes))
    raise typer.Exit(0 if all(outcome.is_passed for outcome in outcomes) else 1)


def _for_another_server(outcomes: list[Verification], refused: Mapping[str, str]) -> list[str]:
    """Return the engines that the bundled server, which is for development, is not meant to run."""
    if not is_bundled_server():
        return []
    return [each.model for each in outcomes if each.model in refused and each.runtime != "python"]


def _table(outcomes: list[Verification]) -> Table:
    table = Table("model", "runtime", "precision", "device", "measures", Column("result", overflow="fold"))
    for outcome in outcomes:
        report = outcome.report
        table.add_row(
            outcome.model,
            outcome.runtime,
            outcome.precision,
            report.device if report else "",
            "\n".join(map(str, report.measures)) if report else "",
            outcome.problem or ("passed" if outcome.is_passed else "FAILED"),
        )
    return table
