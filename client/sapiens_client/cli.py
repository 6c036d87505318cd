"""The command `sapiens`: what the SDK does, from a shell; exporting and serving join it as sub-commands."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from sapiens_client.client import SapiensClient
from sapiens_client.errors import (
    InvalidInputError,
    ModelNotServedError,
    SapiensError,
    ServerUnavailableError,
)
from sapiens_core.tasks import IMAGE_FORMATS

if TYPE_CHECKING:
    from sapiens_core.model_info import ModelInfo

IMAGE_SUFFIXES = frozenset({".jpg", ".tif", *(f".{name.lower()}" for name in IMAGE_FORMATS)})

app = typer.Typer(
    help="Meta's Sapiens human vision models on Triton: export them, serve them, ask them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """What to write for every image."""

    PICTURE = "picture"
    NPY = "npy"
    PNG16 = "png16"


_SUFFIXES = {Format.PICTURE: ".png", Format.NPY: ".npy", Format.PNG16: ".16.png"}


def main() -> None:
    """Run the command line; an error of the SDK or of the file system is one line and exit status 1."""
    _add_other_parts()
    try:
        app()
    except (SapiensError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


def _add_other_parts() -> None:
    from sapiens_export.cli import export_command
    from sapiens_server.cli import serve_command

    app.command("export")(export_command)
    app.command("serve")(serve_command)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"sapiens {version('sapiens-triton')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def depth(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES", help="Image files, or folders of images.")
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("out"),
    url: Annotated[
        str | None,
        typer.Option(help="host:port of the server.", show_default="$SAPIENS_URL, else localhost:8001"),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds that one image may take.")] = 60.0,
    formats: Annotated[
        list[Format],
        typer.Option(
            "--format",
            default_factory=lambda: [Format.PICTURE],
            show_default="picture",
            help="A picture for people (.png), float32 (.npy), or 16 bit (.16.png) with scale and offset "
            "in a .json beside it; may be repeated.",
        ),
    ],
) -> None:
    """Estimate the relative depth of every pixel of IMAGES.

    Writes NAME_depth.png and the like, and prints the path of each file written.
    A bad image is reported and left out; without a server everything stops.
    Exit status: 0 all done, 1 something failed, 130 interrupted.
    """
    paths = image_paths(images)
    output.mkdir(parents=True, exist_ok=True)
    with SapiensClient(url, timeout_s=timeout_s) as client:
        num_failed = _save_depths(client, paths, output, formats)
    if num_failed:
        typer.echo(f"{num_failed} of {len(paths)} images failed", err=True)
        raise typer.Exit(1)


def image_paths(images: Sequence[Path]) -> list[Path]:
    """Return the image files meant, each once: a folder stands for the images in it, sorted.

    Raises:
        InvalidInputError: A folder holds no image.
    """
    paths: list[Path] = []
    for image in images:
        if not image.is_dir():
            paths.append(image)
            continue
        inside = sorted(path for path in image.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if not inside:
            formats = ", ".join(IMAGE_FORMATS)
            raise InvalidInputError(f"folder must hold images ({formats}), got none in {str(image)!r}")
        paths += inside
    return list(dict.fromkeys(paths))


def output_names(paths: Sequence[Path]) -> list[str]:
    """Return a distinct name per image: its stem; where stems repeat its file name, numbered if need be."""
    num_stems = Counter(path.stem for path in paths)
    names: dict[str, None] = {}
    for path in paths:
        base = path.stem if num_stems[path.stem] == 1 else path.name
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names[name] = None
    return list(names)


def _save_depths(
    client: SapiensClient, paths: Sequence[Path], folder: Path, formats: Sequence[Format]
) -> int:
    """Return how many images failed."""
    num_failed, model = 0, None
    stems = [folder / f"{name}_depth" for name in output_names(paths)]
    with _progress() as progress:
        for path, stem in progress.track(list(zip(paths, stems, strict=True)), description="depth"):
            try:
                result = client.depth(path)
                files = [file for kind in formats for file in result.save(f"{stem}{_SUFFIXES[kind]}")]
            except (ServerUnavailableError, ModelNotServedError):
                raise
            except (SapiensError, OSError) as error:
                typer.echo(f"{path}: {error}", err=True)
                num_failed += 1
                continue
            if model is None:
                model = result.model
                _introduce(model)
            for file in files:
                typer.echo(file)
    return num_failed


def _progress() -> Progress:
    console = Console(stderr=True)
    # Paths go above the bar where standard output is the terminal too, else where it is sent.
    return Progress(console=console, disable=not console.is_terminal, redirect_stdout=sys.stdout.isatty())


def _introduce(model: ModelInfo) -> None:
    words = f"{model.task} by {model.family} {model.size}, licence of the weights: {model.licence}"
    typer.echo(words, err=True)
    if model.untrained:
        typer.echo("the served model is untrained (random weights): its results mean nothing", err=True)
