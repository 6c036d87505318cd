"""`sapiens zoo`: which weights are published."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from sapiens_core.recipes.recipe import Task
from sapiens_export.weights.zoo import ZOO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sapiens_export.weights.zoo import ZooEntry

_COLUMNS = (
    "task",
    "family",
    "size",
    "labels",
    "input",
    "accuracy",
    "licence",
    "hub repository, file, commit",
    "file size",
    "here",
)
_DETECTORS = (
    "No detector is among the published weights: `sapiens export detect` takes NanoDet-g, which is part of "
    "this package (Apache-2.0), or with `--detector NAME` one from the Hugging Face hub, such as "
    "PekingU/rtdetr_v2_r18vd."
)
_DEMO = (
    "Built in, for a first look without a download: `sapiens export TASK --size demo`, small networks that "
    "this project has trained on rendered people (Apache-2.0)."
)
_NOT_KNOWN = (
    "Where no commit is told, none is known, and the newest is fetched. File sizes are those of float32 "
    "weights. Accuracy is the publishers', each on images of its own: compare sizes of one family alone."
)
_NOT_PUBLISHED = "Not in the list: albedo, of which no weights are published."
_FILE_WIDTH = 190  # columns of a table that goes into a file or a pipe


def zoo_command(
    task: Annotated[Task | None, typer.Option(help="Only the weights of this task.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs, with the files of every format.")
    ] = False,
) -> None:
    """List the published weights, which `sapiens export TASK --size SIZE` fetches."""
    entries = [entry for entry in ZOO if task in (None, entry.task)]
    if as_json:
        typer.echo(json.dumps(list(map(_facts, entries)), indent=2))
    elif task == Task.DETECT:
        typer.echo(_DETECTORS, err=True)
    else:
        Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(_table(entries))
        typer.echo(_DEMO, err=True)
        typer.echo(_NOT_KNOWN, err=True)
        typer.echo(_NOT_PUBLISHED, err=True)


def _facts(entry: ZooEntry) -> dict[str, object]:
    return {
        "task": entry.task.value,
        "family": entry.family,
        "size": entry.size,
        "labels": entry.labels,
        "input_hw": entry.input_hw,
        "num_parameters": entry.num_parameters,
        "licence": entry.licence,
        "accuracy": None if entry.accuracy is None else asdict(entry.accuracy),
        "is_cached": _is_cached(entry),
        "files": {form: asdict(file) for form, file in entry.files.items()},
    }


def _table(entries: Iterable[ZooEntry]) -> Table:
    table = Table(*_COLUMNS)
    for column in table.columns:
        column.overflow = "fold"
    for entry in entries:
        accuracy, (height, width) = entry.accuracy, entry.input_hw
        table.add_row(
            entry.task.value,
            entry.family,
            entry.size,
            entry.labels,
            f"{height}x{width}",
            f"{accuracy.metric} {accuracy.value}" if accuracy else "",
            entry.licence,
            "\n".join(filter(None, (entry.file.repository, entry.file.name, entry.file.revision))),
            decimal(entry.num_bytes),
            "cached" if _is_cached(entry) else "",
        )
    return table


def _is_cached(entry: ZooEntry) -> bool:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ModuleNotFoundError:  # without the export extra nothing has been downloaded
        return False
    file = entry.file
    return isinstance(try_to_load_from_cache(file.repository, file.path, revision=file.revision), str)
