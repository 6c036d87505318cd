"""`sapiens up`: names of tasks in, their networks served by this machine out."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sapiens_core.contract.engines import Runtime
from sapiens_core.option_groups import with_option_groups
from sapiens_core.recipes.lookup import FAMILIES
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


@dataclass(frozen=True)
class Networks:
    """What is served."""

    tasks: Annotated[
        str | None,
        typer.Option(
            help="What to serve, e.g. depth,pose; default: all that the size has.", envvar="SAPIENS_TASKS"
        ),
    ] = None
    size: Annotated[
        str,
        typer.Option(
            help="Released size of the networks, e.g. 1b; demo: the small ones built in.",
            envvar="SAPIENS_SIZE",
        ),
    ] = DEMO_SIZE
    family: Annotated[
        str | None,
        typer.Option(
            help=f"Generation of the released size, {', '.join(FAMILIES)}; default: the first that has "
            "the task in this size.",
            envvar="SAPIENS_FAMILY",
        ),
    ] = None
    accept_licence: Annotated[
        bool,
        typer.Option(
            "--accept-licence",
            help="You accept the licence of the published weights.",
            envvar="SAPIENS_ACCEPT_LICENCE",
        ),
    ] = False
    mirror: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with copies of published files, used instead of the hub."),
    ] = None

    def chosen(self) -> list[WeightOptions]:
        """Return which networks these are.

        Raises:
            typer.BadParameter: There are no such words.
            ValueError: There is no such network.
        """
        if self.family is not None and self.size == DEMO_SIZE:
            raise typer.BadParameter(
                f"--family is for released sizes, and {DEMO_SIZE} has networks of its own; give --size, too"
            )
        if self.family not in (None, *FAMILIES):
            raise typer.BadParameter(f"--family must be of {', '.join(FAMILIES)}, got {self.family!r}")
        networks = [self._network(task) for task in self._tasks()]
        for network in networks:
            _ = network.published
        return networks

    def _tasks(self) -> list[Task]:
        if self.tasks is None:
            return [*self._tasks_of_size(), Task.DETECT]
        try:
            return [Task(name) for name in dict.fromkeys(self.tasks.replace(",", " ").split())]
        except ValueError as error:
            raise typer.BadParameter(f"--tasks must be of {', '.join(Task)}, got {self.tasks!r}") from error

    def _tasks_of_size(self) -> list[Task]:
        """Return what there are networks of the size for, in the first family that has it."""
        if self.size == DEMO_SIZE:
            return [task for task in Task if (DEMO_NETWORKS / f"{task}.json").is_file()]
        of_family = [entry for entry in ZOO if self.family in (None, entry.family)]
        entries = [entry for entry in of_family if entry.size == self.size]
        if not entries:
            sizes = ", ".join(dict.fromkeys([DEMO_SIZE, *(entry.size for entry in of_family)]))
            raise typer.BadParameter(f"--size must be one of {sizes}, got {self.size!r}")
        return list(dict.fromkeys(entry.task for entry in entries if entry.family == entries[0].family))

    def _network(self, task: Task) -> WeightOptions:
        is_detector = task is Task.DETECT  # there is one, of no size
        return WeightOptions(
            task,
            size=None if is_detector else self.size,
            family=None if is_detector else self.family,
            accept_licence=self.accept_licence,
            mirror=self.mirror,
        )


@dataclass(frozen=True)
class Kept:
    """What is kept of it."""

    runtime: Annotated[
        Runtime | None,
        typer.Option(
            help="What runs them; default: tensorrt where this machine has it, else python. Engines of aoti "
            "are portable ones."
        ),
    ] = None
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where engines are kept once built.",
            envvar="SAPIENS_CACHE",
            show_default="sapiens in the user's folder of caches",
        ),
    ] = None
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Remove all other engines from the cache, of other tasks, weights, machines and versions, "
            "unless a server that runs has them.",
        ),
    ] = False

    def folder(self) -> Path:
        """Return where engines are kept."""
        from platformdirs import user_cache_path  # of the extra `export`; help texts do without

        return (self.cache or user_cache_path("sapiens")).expanduser().absolute()


@with_option_groups
def up_command(context: typer.Context, *, networks: Networks, kept: Kept) -> None:
    """Serve tasks: fetch weights, build engines for this machine, verify and keep them, run `sapiens serve`.

    Further options are those of `sapiens serve`, such as --grpc-port; see its help. An engine is built once
    for each GPU, driver, version of the libraries and weight file. Exit status: that of `sapiens serve`; also
    1 if an engine cannot be had, 130 if interrupted before it is.
    """
    _check_serving(context.args)
    console = Console(stderr=True, highlight=False)
    with interruptible(console, "up"), told_in_a_sentence(console, "up"), ExitStack() as held:
        chosen = networks.chosen()
        store = EngineStore(kept.folder(), _machine(kept.runtime, console))
        exporter = partial(_export, runtime=store.machine.runtime, console=console)
        engines = [
            store.engine(network.task, networks.size, network.sha256(), partial(exporter, network))
            for network in chosen
        ]
        held.enter_context(store.held(*engines))
        repository = store.repository(engines)
        held.enter_context(store.held(repository))
        for folder in store.pruned(*engines, repository) if kept.prune else ():
            console.print(f"removed {folder}", markup=False, soft_wrap=True)
        words = [sys.executable, sys.argv[0], "serve", *context.args, "--repository", str(repository)]
        os.execv(sys.executable, words)  # which frees what the exports took of memory and of GPUs


def _check_serving(arguments: Sequence[str]) -> None:
    """Refuse now what `sapiens serve` would refuse after the engines are built."""
    if any(word.partition("=")[0] == "--repository" for word in arguments):
        raise typer.BadParameter("sapiens up makes its own repository, and takes no --repository")
    app = typer.Typer()
    app.command()(serve_command)
    typer.main.get_command(app).make_context("sapiens up", list(arguments)).close()


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
    from sapiens_export.engines.build import check_buildable  # here, because it loads torch
    from sapiens_export.engines.engine import EngineUnavailableError
    from sapiens_export.engines.precisions import precisions

    try:
        check_buildable("tensorrt", *precisions("tensorrt", None))
    except EngineUnavailableError as error:
        console.print(f"note: engines of the runtime python: {error}", markup=False, soft_wrap=True)
        return "python"
    return "tensorrt"


def _export(network: WeightOptions, repository: Path, *, runtime: Runtime, console: Console) -> None:
    from sapiens_export.exporter import EngineOptions, export_engine  # here, because it loads torch
    from sapiens_export.repository.serving import Serving

    def tell(step: object) -> None:
        console.print(f"{network.task}: {step}", markup=False, soft_wrap=True)

    options = EngineOptions(runtime=runtime, licence=network.known_licence)
    serving = Serving(portable=True)  # compiled ones run on every server, as those of the other runtimes here
    done = export_engine(
        network.source(network.fetched()), repository, options, serving=serving, on_step=tell
    )
    tell(f"parity: {done.parity}")
