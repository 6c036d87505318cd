"""`sapiens export`: a checkpoint in, a verified engine in a model repository out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sapiens_core.tasks import Preprocess, Runtime, Task

if TYPE_CHECKING:
    from sapiens_export.exporter import Export, Source
    from sapiens_export.networks.config import NetworkConfig

_MISSING_EXTRA = "sapiens export needs {name}: pip install 'sapiens-triton[export]'"


def export_command(
    task: Annotated[Task, typer.Argument(help="What the network predicts.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Downloaded official weights: .pth, .safetensors or _torchscript.pt2.")
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(help="JSON description of the network; default: the released one that fits."),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Released size, e.g. 0.3b, with --random-weights.")] = None,
    repository: Annotated[Path, typer.Option(help="Model repository to write into.")] = Path("models"),
    runtime: Annotated[
        Runtime,
        typer.Option(help="python: torch in the Python backend, CPU or GPU; torchscript: libtorch backend."),
    ] = "python",
    preprocess: Annotated[
        Preprocess, typer.Option(help="Normalise like the training (full), or like the official lite demos.")
    ] = "full",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="An untrained network, for trying things out.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of --random-weights.")] = 0,
) -> None:
    """Turn a checkpoint into an engine, verify it, and write a model repository that serves it."""
    if random_weights == (checkpoint is not None):
        raise typer.BadParameter("give exactly one of --checkpoint FILE and --random-weights")
    if network is not None and size is not None:
        raise typer.BadParameter("give at most one of --network and --size")
    console = Console(stderr=True)
    try:
        from sapiens_export.exporter import ParityError, export_engine
    except ModuleNotFoundError as error:
        console.print(_MISSING_EXTRA.format(name=error.name), markup=False)
        raise typer.Exit(1) from error
    try:
        with console.status(f"loading the {task.value} network") as status:
            source = _source(task, checkpoint, _config(task, network, size), seed)
            export = export_engine(
                source,
                repository,
                runtime=runtime,
                preprocess=preprocess,
                on_step=lambda step: status.update(step),
            )
    except (ValueError, OSError, ParityError) as error:
        console.print(f"sapiens export: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    _report(export, repository, console)


def _config(task: Task, network: Path | None, size: str | None) -> NetworkConfig | None:
    from sapiens_export.networks.config import read_network, released_network

    if network is not None:
        return read_network(network, task)
    return released_network(task, size) if size is not None else None


def _source(task: Task, checkpoint: Path | None, config: NetworkConfig | None, seed: int) -> Source:
    from sapiens_export.exporter import source_from_checkpoint, source_from_seed

    if checkpoint is not None:
        return source_from_checkpoint(task, checkpoint, config)
    if config is None:
        raise ValueError("--random-weights needs an architecture; give --size or --network")
    return source_from_seed(config, seed)


def _report(export: Export, repository: Path, console: Console) -> None:
    parity, info = export.parity, export.info
    typer.echo(f"{repository}: {', '.join(sorted(export.models))}")
    console.print(
        f"parity: largest error {parity.max_error:.1e} of the output's range on {parity.num_images} images, "
        f"{parity.tolerance:.1e} allowed",
        markup=False,
    )
    console.print(f"licence of the weights: {info.licence}", markup=False)
    if info.untrained:
        console.print("untrained: the weights are random and the results mean nothing", markup=False)
