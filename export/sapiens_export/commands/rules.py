"""Which options of `sapiens export` go together."""

from __future__ import annotations

import typer

from sapiens_core.recipes.detectors import NANODET_LICENCE
from sapiens_core.recipes.recipe import Task
from sapiens_export.networks.config import DEMO_SIZE

BUILT_IN_DETECTOR = "nanodet"
_NETWORKS = frozenset(Task) - {Task.DETECT}
_TASKS_OF_OPTION = {
    **dict.fromkeys(
        ("checkpoint", "network", "size", "family", "preprocess", "random_weights", "seed"), _NETWORKS
    ),
    **dict.fromkeys(("mirror", "accept_licence"), _NETWORKS),
    "keypoints": {Task.POSE},
    "flip_test": {Task.POSE},
    "classes": {Task.SEG},
    "detector": {Task.DETECT},
    "people_instances": {Task.POSE},
    "finish": {Task.DEPTH, Task.NORMAL, Task.SEG},
}


def given_options(context: typer.Context) -> set[str]:
    """Return the names of the options that the command line has."""
    return {name for name in context.params if _is_given(context, name)}


def check_together(context: typer.Context, task: Task) -> None:
    """Refuse options that mean nothing for the task, or nothing together.

    Raises:
        typer.BadParameter: There are such.
    """
    given = given_options(context)
    foreign = sorted(name for name in given if task not in _TASKS_OF_OPTION.get(name, Task))
    if foreign:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
        raise typer.BadParameter(f"{task.value} takes no {names}")
    own = given & {"checkpoint", "random_weights"}
    if task != Task.DETECT and (len(own) > 1 or not (own or "size" in given)):
        raise typer.BadParameter(
            "give exactly one of --checkpoint FILE, --random-weights, and --size alone for published weights"
        )
    if own and (idle := given & {"mirror", "accept_licence"}):
        raise typer.BadParameter(
            f"--{min(idle).replace('_', '-')} is for published weights, which --size alone asks for"
        )
    if context.params["size"] == DEMO_SIZE and (idle := given & {"mirror", "accept_licence"}):
        raise typer.BadParameter(
            f"the demo network comes with this project; leave --{min(idle).replace('_', '-')} out"
        )
    if task == Task.DETECT:
        _check_detector_options(context.params["detector"] in (None, BUILT_IN_DETECTOR), given)
    if {"name", "people_instances"} <= given:
        raise typer.BadParameter("--people-instances is for the pose network without a --name")
    if "tensorrt_accelerator" in given and context.params["runtime"] != "onnx":
        raise typer.BadParameter("--tensorrt-accelerator is for --runtime onnx")
    if "portable" in given and context.params["runtime"] != "aoti":
        raise typer.BadParameter("--portable is for --runtime aoti; python engines are always")
    if "family" in given and "size" not in given:
        raise typer.BadParameter("--family is for a released size; give --size, or leave it out")
    described = given & {"size", "keypoints", "classes"}
    if "network" in given and described:
        raise typer.BadParameter(f"give at most one of --network and --{min(described)}")


def _check_detector_options(is_built_in: bool, given: set[str]) -> None:
    """Refuse what is for detectors of the other kind."""
    if is_built_in and "licence" in given:
        raise typer.BadParameter(f"the built-in detector is under {NANODET_LICENCE}; leave --licence out")
    if not is_built_in and (foreign := given & {"plan", "precision"}):
        raise typer.BadParameter(f"--{min(foreign)} is for the built-in detector; leave it or --detector out")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
