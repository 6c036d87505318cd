"""`sapiens export`: a checkpoint in, a verified engine in a model repository out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sapiens_core.option_groups import with_option_groups
from sapiens_export.commands.ends import WRONG_USAGE, interruptible, told_in_a_sentence
from sapiens_export.commands.options import BuildOptions, PlaceOptions, ServingOptions
from sapiens_export.commands.rules import check_together, given_options
from sapiens_export.commands.weights import WeightOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.status import Status

    from sapiens_export.exporter import EngineOptions, Export
    from sapiens_export.repository.serving import Serving


@with_option_groups
def export_command(
    context: typer.Context,
    weights: WeightOptions,
    build: BuildOptions,
    place: PlaceOptions,
    serving_options: ServingOptions,
) -> None:
    """Turn a checkpoint into an engine, verify it, and write a model repository that serves it.

    A repository with both a detector and a pose network also gets people_pose, which finds everybody's
    keypoints. Exit status: 0 installed, 1 refused or failed, 2 wrong usage, 130 interrupted.
    """
    check_together(context, weights.task)
    _ = weights.variant  # which is refused if there is no such set
    console = Console(stderr=True, highlight=False)
    with interruptible(console), told_in_a_sentence(console):
        with told_in_a_sentence(console, status_of_value_errors=WRONG_USAGE):
            serving = serving_options.chosen(given_options(context))
            options = _engine_options(weights, build, place)
        if place.plan:
            _print_plan(weights, options, serving, place.repository)
        else:
            export = _exported(weights, place.repository, options, serving, console)
            _report(export, place.repository, console)


def _engine_options(weights: WeightOptions, build: BuildOptions, place: PlaceOptions) -> EngineOptions:
    """Return what is to be made of the network, once nothing that was said is wrong."""
    from sapiens_export.exporter import EngineOptions, check_options  # here, because they load torch
    from sapiens_export.repository.write import check_name

    licence = weights.licence or weights.known_licence
    options = EngineOptions(**vars(build), licence=licence, name=place.name)
    check_name(place.name)
    weights.config()
    if not place.plan and weights.other_detector is None:
        check_options(options)
    return options


def _exported(
    weights: WeightOptions, repository: Path, options: EngineOptions, serving: Serving, console: Console
) -> Export:
    from sapiens_export.exporter import export_detector, export_engine

    fetched, detector = weights.fetched(), weights.other_detector
    what = "detector" if detector else f"{weights.task.value} network"
    with console.status(f"loading the {what}") as status:
        on_step = _teller(console, status)
        if detector:
            return export_detector(detector, repository, options, serving=serving, on_step=on_step)
        return export_engine(weights.source(fetched), repository, options, serving=serving, on_step=on_step)


def _teller(console: Console, status: Status) -> Callable[[str], None]:
    """Return what tells the steps of an export: on a terminal the last one, elsewhere a line for each."""
    if console.is_terminal:
        return lambda step: status.update(escape(step))
    return lambda step: console.print(step, markup=False, soft_wrap=True)


def _print_plan(weights: WeightOptions, options: EngineOptions, serving: Serving, repository: Path) -> None:
    from sapiens_export.commands.plan import IN_THE_WAY, export_plan
    from sapiens_export.engines.precisions import precisions
    from sapiens_export.exporter import model_info

    config, origin = weights.planned()
    info = model_info(config, options, is_trained=not weights.random_weights)
    choices = precisions(options.runtime, options.precision)
    plan = export_plan(config, info, serving, options.name, repository, choices=choices)
    facts = {"weights": origin, **plan}
    table = Table.grid(padding=(0, 2))
    for about, fact in facts.items():
        table.add_row(about, Text(fact, overflow="fold"))
    Console(highlight=False).print(table)
    if IN_THE_WAY in facts:
        raise typer.Exit(1)


def _report(export: Export, repository: Path, console: Console) -> None:
    info = export.info
    typer.echo(f"{repository}: {', '.join(sorted(export.models))}")
    console.print(f"parity: {export.parity}", markup=False, soft_wrap=True)
    for note in export.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    if export.trtexec:
        words = "the same asked of TensorRT's own tool, whose plan is not installed"
        console.print(f"{words}: {export.trtexec}", markup=False, soft_wrap=True)
    console.print(f"licence of the weights: {info.licence}", markup=False, soft_wrap=True)
    if info.untrained:
        console.print("untrained: the weights are random and the results mean nothing", markup=False)
