"""`sapiens up`: names of tasks in, their networks served by this machine out."""

from __future__ import annotations

import os
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sapiens_core.contract.engines import Runtime
from sapiens_core.recipes.recipe import Task
from sapiens_export.commands.ends import interruptible, told_in_a_sentence
from sapiens_export.commands.weights import WeightOptions
from sapiens_export.engine_store import EngineStore, Machine, libraries
from sapiens_export.networks.config import DEMO_NETWORKS, DEMO_SIZE
from sapiens_export.weights.zoo import ZOO
from sapiens_server.cli import serve_command
from sapiens_server.engines import is_bundled_server
from sapiens_server.gpus import Gpu, gpus

if TYPE_CHECKING:
    from collections.abc import Sequence


def up_command(
    context: typer.Context,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="What to serve, e.g. depth,pose; default: all that the size has.", envvar="SAPIENS_TASKS"
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            help="Released size of the networks, e.g. 1b; demo: the small ones built in.",
            envvar="SAPIENS_SIZE",
        ),
    ] = DEMO_SIZE,
    *,
    accept_licence: Annotated[
        bool,
        typer.Option(
            "--accept-licence",
            help="You accept the licence of the published weights.",
            envvar="SAPIENS_ACCEPT_LICENCE",
        ),
    ] = False,
    mirror: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with copies of published files, used instead of the hub."),
    ] = None,
    runtime: Annotated[
        Runtime | None,
        typer.Option(help="What runs them; default: tensorrt where this machine has it, else python."),
    ] = None,
    cache: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where engines are kept once built.", envvar="SAPIENS_CACHE"),
    ] = Path("~/.cache/sapiens"),
) -> None:
    """Serve tasks: fetch weights, build engines for this machine, verify and keep them, run `sapiens serve`.

    Further options are those of `sapiens serve`, such as --grpc-port; see its help. An engine is built once
    for each GPU, driver, version of the libraries and weight file. Exit status: that of `sapiens serve`; also
    1 if an engine cannot be had, 130 if interrupted before it is.
    """
    _check_serving(context.args)
    wanted = _tasks(tasks, size)
    console = Console(stderr=True, highlight=False)
    with interruptible(console, "up"), told_in_a_sentence(console, "up"):
        networks = [_network(task, size, accept_licence=accept_licence, mirror=mirror) for task in wanted]
        store = EngineStore(cache.expanduser().absolute(), _machine(runtime, console))
        exporter = partial(_export, runtime=store.machine.runtime, console=console)
        engines = [
            store.engine(network.task, size, network.sha256(), partial(exporter, network))
            for network in networks
        ]
        repository = store.repository(engines)
    words = [sys.executable, sys.argv[0], "serve", *context.args, "--repository", str(repository)]
    os.execv(sys.executable, words)  # which frees what the exports took of memory and of GPUs


def _check_serving(arguments: Sequence[str]) -> None:
    """Refuse now what `sapiens serve` would refuse after the engines are built."""
    if any(word.partition("=")[0] == "--repository" for word in arguments):
        raise typer.BadParameter("sapiens up makes its own repository, and takes no --repository")
    app = typer.Typer()
    app.command()(serve_command)
    typer.main.get_command(app).make_context("sapiens up", list(arguments)).close()


def _tasks(names: str | None, size: str) -> list[Task]:
    if names is None:
        return [*_tasks_of(size), Task.DETECT]
    try:
        return [Task(name) for name in dict.fromkeys(names.replace(",", " ").split())]
    except ValueError as error:
        raise typer.BadParameter(f"--tasks must be of {', '.join(Task)}, got {names!r}") from error


def _tasks_of(size: str) -> list[Task]:
    """Return what there are networks of a size for, in the first family that has it."""
    if size == DEMO_SIZE:
        return [task for task in Task if (DEMO_NETWORKS / f"{task}.json").is_file()]
    entries = [entry for entry in ZOO if entry.size == size]
    if not entries:
        sizes = ", ".join(dict.fromkeys([DEMO_SIZE, *(entry.size for entry in ZOO)]))
        raise typer.BadParameter(f"--size must be one of {sizes}, got {size!r}")
    return list(dict.fromkeys(entry.task for entry in entries if entry.family == entries[0].family))


def _network(task: Task, size: str, *, accept_licence: bool, mirror: Path | None) -> WeightOptions:
    """Return which network serves a task, if there is one."""
    own_size = None if task is Task.DETECT else size  # there is one detector
    network = WeightOptions(task, size=own_size, accept_licence=accept_licence, mirror=mirror)
    _ = network.published
    return network


def _machine(runtime: Runtime | None, console: Console) -> Machine:
    found = gpus()
    return Machine(
        runtime or _best_runtime(found, console),
        tuple(sorted({f"{gpu.name} {gpu.compute_capability}" for gpu in found})),
        found[0].driver if found else "",
        libraries(),
        version("sapiens-triton"),
    )


def _best_runtime(found: Sequence[Gpu], console: Console) -> Runtime:
    """Return TensorRT where the machine can build its engines and the server at hand can run them."""
    if not found or is_bundled_server():
        return "python"
    from sapiens_export.engines.build import check_buildable, default_precision  # here: they load torch
    from sapiens_export.engines.engine import EngineUnavailableError

    try:
        check_buildable("tensorrt", default_precision("tensorrt"))
    except EngineUnavailableError as error:
        console.print(f"note: engines of the runtime python: {error}", markup=False, soft_wrap=True)
        return "python"
    return "tensorrt"


def _export(network: WeightOptions, repository: Path, *, runtime: Runtime, console: Console) -> None:
    from sapiens_export.exporter import EngineOptions, export_engine  # here, because it loads torch

    def tell(step: object) -> None:
        console.print(f"{network.task}: {step}", markup=False, soft_wrap=True)

    options = EngineOptions(runtime=runtime, licence=network.known_licence)
    done = export_engine(network.source(network.fetched()), repository, options, on_step=tell)
    tell(f"parity: {done.parity}")
