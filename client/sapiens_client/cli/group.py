"""What all parts of the command `sapiens` are joined to."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import cleandoc
from typing import Annotated

import typer

from sapiens_client.version import sdk_version

# What the list of commands says; the first paragraph of what each says of itself.
ABOUT: Mapping[str, str] = {
    "models": "Tell what the server serves: networks, engines, licences, and the mean times of their steps.",
    "ready": "Tell whether a server answers and all its models are loaded.",
    "depth": "Estimate the relative depth of every pixel of IMAGES.",
    "normal": "Estimate the surface normal of every pixel of IMAGES.",
    "seg": "Find the body part or garment that every pixel of IMAGES belongs to.",
    "pose": "Find the keypoints of persons in IMAGES: in given boxes, or one per image.",
    "features": "Compute the features of the pretrained backbone for IMAGES.",
    "pointmap": "Estimate where every pixel of IMAGES lies in front of the camera, in metres.",
    "matting": "Cut the persons out of IMAGES: how much of every pixel is theirs.",
    "albedo": "Estimate the colours of surfaces in IMAGES, without light and shadow.",
    "detect": "Find the boxes of the persons in IMAGES.",
    "people": "Find the persons in IMAGES, and their keypoints.",
    "analyze": "Ask for several tasks about IMAGES at the same time.",
    "export": "Turn a checkpoint into an engine, verify it, and write a model repository that serves it.",
    "verify": (
        "Run the engines of a repository on fixed images, and compare them with their float32 networks."
    ),
    "zoo": "List the published weights, which `sapiens export TASK --size SIZE` fetches.",
    "serve": (
        "Serve the models of a repository until SIGTERM or Ctrl-C, and start the server again when it fails."
    ),
    "up": (
        "Serve tasks: fetch weights, build engines for this machine, verify and keep them, "
        "run `sapiens serve`."
    ),
    "doctor": (
        "Look at this machine and installation: what would keep `sapiens serve` from serving, and what to do."
    ),
    "plan": "Tell what a rate of requests takes: GPUs, memory, cores, network and disk.",
    "demo": "Open a page on this machine that asks a server about pictures and videos.",
}


def new_app() -> typer.Typer:
    """Return the command `sapiens` without sub-commands."""
    app = typer.Typer(
        help="Meta's Sapiens human vision models on Triton: export them, serve them, ask them.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    return app


def unwrapped(text: str | None) -> str:
    """Return a text whose paragraphs are one line each, which terminals of every width wrap as a whole."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in cleandoc(text or "").split("\n\n"))


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"sapiens {sdk_version()}")
        raise typer.Exit


def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
