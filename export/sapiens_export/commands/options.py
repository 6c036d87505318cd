"""What `sapiens export` may be told about the engine, its place and its serving; `weights` has the rest."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sapiens_core.contract.engines import PrecisionChoice, Runtime
from sapiens_core.contract.settings import Finish, Preprocess
from sapiens_export.repository.serving import (
    ALL_GPUS,
    AT_HAND,
    NO_WARMUP,
    Serving,
    StepChoices,
    chosen_serving,
    processes_at_hand,
)

_SHARED = "default: what a step that other engines share has, else"
_QUEUE = f"{_SHARED} {StepChoices.max_queue_size}."
_PROCESSES = f"{_SHARED} {StepChoices.cpu_instances}."
_CLOUD = re.compile(r"(\w+)://")

_engine = partial(typer.Option, rich_help_panel="Engine")
_place = partial(typer.Option, rich_help_panel="Repository")
_serving = partial(typer.Option, rich_help_panel="Serving")


def _processes(text: str) -> int:
    if text == AT_HAND:
        return processes_at_hand()
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"it must be a whole number from 1, or {AT_HAND}, got {text!r}")
    return int(text)


def _folder(text: str | Path) -> Path:
    """Refuse addresses of object storage, which would become folders of odd names, and no name at all."""
    if not str(text).strip():
        raise typer.BadParameter("must name a folder, got an empty text; is a variable not set?")
    if _CLOUD.match(str(text)):
        raise typer.BadParameter(
            f"must be a folder, got {text}; export into a folder and copy it there with your cloud's own "
            "tool, such as `aws s3 sync models s3://bucket/models`"
        )
    return Path(text)


@dataclass(frozen=True)
class BuildOptions:
    """What is made of a network; the options' own help describes them."""

    runtime: Annotated[
        Runtime,
        _engine(
            help="python: torch in the Python backend, CPU or GPU; torchscript (legacy), aoti, onnx, "
            "tensorrt: Triton's own backends for these."
        ),
    ] = "python"
    precision: Annotated[
        PrecisionChoice | None,
        _engine(
            help="What the network computes in; auto: the fastest of float16 and bfloat16 that is within "
            "half of its limits. Default: bfloat16 for tensorrt, else auto on a GPU and float32 on a CPU."
        ),
    ] = None
    preprocess: Annotated[
        Preprocess, _engine(help="Normalise like the training (full), or like the official lite demos.")
    ] = "full"
    flip_test: Annotated[
        bool, _engine("--flip-test", help="pose: average with the mirrored image; better, half as fast.")
    ] = False


@dataclass(frozen=True)
class PlaceOptions:
    """Where an engine goes; the options' own help describes them."""

    repository: Annotated[
        Path, _place(help="Folder of the model repository to write into.", parser=_folder)
    ] = Path("models")
    name: Annotated[
        str | None,
        _place(
            help="Serve it beside the task's other networks: 2b makes the ensemble depth_2b. human and "
            "people_pose take the network without a name.",
        ),
    ] = None
    plan: Annotated[
        bool, _place("--plan", help="Only say what would be done, with file sizes and GPU memory.")
    ] = False


@dataclass(frozen=True)
class ServingOptions:
    """How an engine is served; the options' own help describes them."""

    serving_file: Annotated[
        Path | None,
        _serving(
            "--serving",
            metavar="FILE.yaml",
            help="The choices below in a file, e.g. `max_batch_size: 8`, `gpus: [0, 1]`; flags override it.",
        ),
    ] = None
    max_batch_size: Annotated[int, _serving(min=1, help="Largest batch of the engine.")] = (
        Serving.max_batch_size
    )
    queue_delay_us: Annotated[
        int, _serving(min=0, help="How long the engine waits for a fuller batch, microseconds.")
    ] = Serving.queue_delay_us
    max_queue_size: Annotated[
        int | None,
        _serving(min=1, help=f"Requests that may wait at each step before others are turned away; {_QUEUE}"),
    ] = Serving.max_queue_size
    instances: Annotated[int, _serving(min=1, help="Copies of the engine on each GPU, or on the CPU.")] = (
        Serving.instances
    )
    gpus: Annotated[
        str, _serving(metavar="IDS", help=f"GPUs that get the engine, e.g. 0,1; {ALL_GPUS}: those there are.")
    ] = ALL_GPUS
    cpu_instances: Annotated[
        int | None,
        _serving(
            parser=_processes,
            metavar="NUMBER",
            help=f"Processes of each step on the CPU, or {AT_HAND}: as suits this machine; {_PROCESSES}",
        ),
    ] = Serving.cpu_instances
    people_instances: Annotated[
        int, _serving(min=1, help="pose: calls of people_pose that are answered at the same time.")
    ] = Serving.people_instances
    warmup: Annotated[
        str, _serving(metavar="SIZES", help=f"Batches to compute before the server is ready, or {NO_WARMUP}.")
    ] = ",".join(map(str, Serving.warmup))
    tensorrt_accelerator: Annotated[
        bool, _serving("--tensorrt-accelerator", help="onnx: compile the engine with TensorRT at loading.")
    ] = Serving.tensorrt_accelerator
    finish: Annotated[
        Finish,
        _serving(
            help="depth, normal, seg: make results as large as the image on the CPU, or on the engine's GPU "
            "(torch in the server's Python); auto: on the GPU where there is one now."
        ),
    ] = Serving.finish

    portable: Annotated[
        bool, _serving("--portable", help="aoti: run the engine by torch in Triton's Python backend.")
    ] = Serving.portable

    def chosen(self, given: Collection[str]) -> Serving:
        """Return what the operator chose by options, else in the file.

        Args:
            given: Names of the options that were given.

        Raises:
            ValueError: A choice cannot be made, here or in the file.
            OSError: The file cannot be read.
        """
        return chosen_serving(
            {name: value for name, value in vars(self).items() if name in given}, self.serving_file
        )
