"""`sapiens plan`: what a rate of requests takes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sapiens_core.option_groups import with_option_groups
from sapiens_core.recipes.recipe import Task
from sapiens_export.capacity.facts import ASSUMED_SHARE, GPUS
from sapiens_export.capacity.fleet import Wish, fleet_plan
from sapiens_export.networks.config import released_config

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sapiens_export.capacity.fleet import Figure

_FILE_WIDTH = 190  # columns of a table that goes into a file or a pipe
_GPU_NAMES = ", ".join(GPUS)


@dataclass(frozen=True, kw_only=True)
class WishOptions:
    """What is asked of the servers; the options' own help describes them."""

    rate: Annotated[float, typer.Option(help="Images per second at the peak; of pose, persons.")]
    gpu: Annotated[str, typer.Option(help=f"One of {_GPU_NAMES}.")] = "h100"
    p99: Annotated[float | None, typer.Option(help="Seconds that 99 of 100 answers shall take at most.")] = (
        None
    )
    share: Annotated[
        float | None,
        typer.Option(help=f"What the network reaches of the GPU's stated speed; else {ASSUMED_SHARE}."),
    ] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Largest batch of the engine.")] = 4

    @property
    def wish(self) -> Wish:
        """What the plan is made for."""
        return Wish(self.rate, self.gpu, self.p99, self.share, self.batch_size)


@with_option_groups
def plan_command(
    *,
    task: Annotated[Task, typer.Option(help="What is asked for.")],
    size: Annotated[str, typer.Option(help="Size of the network, such as 1b.")],
    family: Annotated[str | None, typer.Option(help="sapiens or sapiens2; the first that has it.")] = None,
    wanted: WishOptions,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell what a rate of requests takes: GPUs, memory, cores, network and disk.

    Every figure says whether it was counted, published, measured or assumed, and where.
    """
    try:
        config = released_config(task, size, family)
        figures = fleet_plan(config, wanted.wish)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        typer.echo(json.dumps([asdict(figure) for figure in figures], indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(_table(figures))


def _table(figures: Iterable[Figure]) -> Table:
    table = Table("", "", "", "is", "from", box=None)
    table.columns[1].justify = "right"
    for figure in figures:
        value = "?" if figure.value is None else f"{figure.value:,.4g}"
        table.add_row(figure.name, value, figure.unit, figure.basis, figure.source)
    return table
