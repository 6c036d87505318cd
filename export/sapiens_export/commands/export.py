"""`sapiens export`: a checkpoint in, a verified engine in a model repository out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sapiens_core.contract.engines import Precision, Runtime
from sapiens_core.contract.settings import Preprocess
from sapiens_core.recipes.detectors import NANODET_LICENCE
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_export.commands.ends import WRONG_USAGE, interruptible, told_in_a_sentence
from sapiens_export.commands.weights import WeightOptions
from sapiens_export.networks.config import DEMO_SIZE
from sapiens_export.repository.serving import ALL_GPUS, NO_WARMUP, Serving, StepChoices, chosen_serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.status import Status

    from sapiens_core.recipes.recipe import VariantSpec
    from sapiens_export.exporter import EngineOptions, Export

_BUILT_IN = "nanodet"
_MAX_SEED = 2**63 - 1
_KEYPOINTS = {str(variant.num_outputs): variant for variant in first_recipe(Task.POSE).variants}
_CLASSES = {variant.labels: variant for variant in first_recipe(Task.SEG).variants}
_NETWORKS = frozenset(Task) - {Task.DETECT}
_TASKS_OF_OPTION = {
    **dict.fromkeys(("checkpoint", "network", "size", "preprocess", "random_weights", "seed"), _NETWORKS),
    **dict.fromkeys(("mirror", "accept_licence"), _NETWORKS),
    "keypoints": {Task.POSE},
    "flip_test": {Task.POSE},
    "classes": {Task.SEG},
    "detector": {Task.DETECT},
    "people_instances": {Task.POSE},
}
_SHARED = "default: what a step that other engines share has, else"
_QUEUE = f"{_SHARED} {StepChoices.max_queue_size}."
_PROCESSES = f"{_SHARED} {StepChoices.cpu_instances}."
_CLOUD = re.compile(r"(\w+)://")


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


def _choices(variants: Mapping[str, VariantSpec]) -> str:
    return f"{', '.join(variants)}; default: what the weights fit, else {next(iter(variants))}."


def export_command(
    context: typer.Context,
    task: Annotated[Task, typer.Argument(help="What the network predicts; detect finds people.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Downloaded official weights: .pth, .safetensors or _torchscript.pt2.")
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(help="JSON description of the network; default: the released one that fits."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Released size, e.g. 0.3b. Alone: fetch its published weights, which `sapiens zoo` lists; "
            "with a checkpoint, default: what the weights fit. demo: the small networks that come with this "
            "project, trained on rendered people."
        ),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You accept the licence of the published weights.")
    ] = False,
    mirror: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder with copies of published files, used instead of the hub: OWNER/NAME/FILE or FILE.",
        ),
    ] = None,
    keypoints: Annotated[
        str | None, typer.Option(help=f"pose: number of keypoints, {_choices(_KEYPOINTS)}")
    ] = None,
    classes: Annotated[str | None, typer.Option(help=f"seg: set of classes, {_choices(_CLASSES)}")] = None,
    flip_test: Annotated[
        bool,
        typer.Option("--flip-test", help="pose: average with the mirrored image; better, half as fast."),
    ] = False,
    detector: Annotated[
        str | None,
        typer.Option(
            help=f"detect: {_BUILT_IN} (default), which is part of this package; or an RT-DETR, RT-DETRv2 or "
            "D-FINE network: a folder written by save_pretrained, or a name on the Hugging Face hub such as "
            "PekingU/rtdetr_v2_r18vd."
        ),
    ] = None,
    repository: Annotated[
        Path, typer.Option(help="Folder of the model repository to write into.", parser=_folder)
    ] = Path("models"),
    name: Annotated[
        str | None,
        typer.Option(
            help="Serve it beside the task's other networks: 2b makes the ensemble depth_2b. human and "
            "people_pose take the network without a name.",
        ),
    ] = None,
    runtime: Annotated[
        Runtime,
        typer.Option(
            help="python: torch in the Python backend, CPU or GPU; torchscript, onnx, tensorrt: Triton's own "
            "backends for these."
        ),
    ] = "python",
    precision: Annotated[
        Precision | None,
        typer.Option(help="What the network computes in; default: bfloat16 for tensorrt, else float32."),
    ] = None,
    preprocess: Annotated[
        Preprocess, typer.Option(help="Normalise like the training (full), or like the official lite demos.")
    ] = "full",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="An untrained network, for trying things out.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=_MAX_SEED, help="Seed of --random-weights.")] = 0,
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Licence of the weights, told to every caller; default: that of the release for a released "
            "size or a detector, else unknown.",
        ),
    ] = None,
    serving_file: Annotated[
        Path | None,
        typer.Option(
            "--serving",
            metavar="FILE.yaml",
            help="The choices below in a file, e.g. `max_batch_size: 8`, `gpus: [0, 1]`; flags override it.",
        ),
    ] = None,
    max_batch_size: Annotated[
        int, typer.Option(min=1, help="Largest batch of the engine.")
    ] = Serving.max_batch_size,
    queue_delay_us: Annotated[
        int, typer.Option(min=0, help="How long the engine waits for a fuller batch, microseconds.")
    ] = Serving.queue_delay_us,
    max_queue_size: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Requests that may wait at each step before others are turned away; {_QUEUE}"
        ),
    ] = Serving.max_queue_size,
    instances: Annotated[
        int, typer.Option(min=1, help="Copies of the engine on each GPU, or on the CPU.")
    ] = Serving.instances,
    gpus: Annotated[
        str,
        typer.Option(metavar="IDS", help=f"GPUs that get the engine, e.g. 0,1; {ALL_GPUS}: those there are."),
    ] = ALL_GPUS,
    cpu_instances: Annotated[
        int | None, typer.Option(min=1, help=f"Processes of each step that runs on the CPU; {_PROCESSES}")
    ] = Serving.cpu_instances,
    people_instances: Annotated[
        int, typer.Option(min=1, help="pose: calls of people_pose that are answered at the same time.")
    ] = Serving.people_instances,
    warmup: Annotated[
        str,
        typer.Option(metavar="SIZES", help=f"Batches to compute before the server is ready, or {NO_WARMUP}."),
    ] = ",".join(map(str, Serving.warmup)),
    tensorrt_accelerator: Annotated[
        bool,
        typer.Option("--tensorrt-accelerator", help="onnx: compile the engine with TensorRT at loading."),
    ] = Serving.tensorrt_accelerator,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Only say what would be done, with file sizes and GPU memory."),
    ] = False,
) -> None:
    """Turn a checkpoint into an engine, verify it, and write a model repository that serves it.

    A repository with both a detector and a pose network also gets people_pose, which finds everybody's
    keypoints. Exit status: 0 installed, 1 refused or failed, 2 wrong usage, 130 interrupted.
    """
    _check_options(context, task)
    variant = _variant("--keypoints", keypoints, _KEYPOINTS) or _variant("--classes", classes, _CLASSES)
    console = Console(stderr=True, highlight=False)
    weights = WeightOptions(
        task, checkpoint, network, size, variant, seed if random_weights else None, mirror, accept_licence
    )
    with interruptible(console), told_in_a_sentence(console):
        with told_in_a_sentence(console, status_of_value_errors=WRONG_USAGE):
            from sapiens_export.exporter import EngineOptions, check_options  # here, because they load torch
            from sapiens_export.repository.write import check_name

            given = {name: value for name, value in context.params.items() if _is_given(context, name)}
            serving = chosen_serving(given, serving_file)
            options = EngineOptions(
                runtime, precision, preprocess, flip_test, licence or weights.known_licence, name
            )
            check_name(name)
            weights.config()
            other_detector = None if detector == _BUILT_IN else detector
            if not plan and other_detector is None:
                check_options(options)
        if plan:
            _print_plan(weights, options, serving, repository)
        elif other_detector is not None:
            export = _detector_export(other_detector, repository, options, serving, console)
            _report(export, repository, console)
        else:
            _report(_network_export(weights, repository, options, serving, console), repository, console)


def _check_options(context: typer.Context, task: Task) -> None:
    """Refuse options that mean nothing for the task, or nothing together."""
    given = {name for name in context.params if _is_given(context, name)}
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
        _check_detector_options(context.params["detector"] in (None, _BUILT_IN), given)
    if {"name", "people_instances"} <= given:
        raise typer.BadParameter("--people-instances is for the pose network without a --name")
    if "tensorrt_accelerator" in given and context.params["runtime"] != "onnx":
        raise typer.BadParameter("--tensorrt-accelerator is for --runtime onnx")
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


def _variant(option: str, choice: str | None, variants: Mapping[str, VariantSpec]) -> VariantSpec | None:
    if choice is None or choice in variants:
        return None if choice is None else variants[choice]
    raise typer.BadParameter(f"{option} must be one of {', '.join(variants)}, got {choice!r}")


def _network_export(
    weights: WeightOptions, repository: Path, options: EngineOptions, serving: Serving, console: Console
) -> Export:
    from sapiens_export.exporter import export_engine

    fetched = weights.fetched()
    with console.status(f"loading the {weights.task.value} network") as status:
        return export_engine(
            weights.source(fetched),
            repository,
            options,
            serving=serving,
            on_step=_teller(console, status),
        )


def _teller(console: Console, status: Status) -> Callable[[str], None]:
    """Return what tells the steps of an export: on a terminal the last one, elsewhere a line for each."""
    if console.is_terminal:
        return lambda step: status.update(escape(step))
    return lambda step: console.print(step, markup=False, soft_wrap=True)


def _detector_export(
    detector: str, repository: Path, options: EngineOptions, serving: Serving, console: Console
) -> Export:
    from sapiens_export.exporter import export_detector

    with console.status("loading the detector") as status:
        return export_detector(
            detector, repository, options, serving=serving, on_step=_teller(console, status)
        )


def _print_plan(weights: WeightOptions, options: EngineOptions, serving: Serving, repository: Path) -> None:
    from sapiens_export.commands.plan import IN_THE_WAY, export_plan
    from sapiens_export.exporter import model_info

    config, origin = weights.planned()
    info = model_info(config, options, is_trained=weights.seed is None)
    facts = {"weights": origin, **export_plan(config, info, serving, options.name, repository)}
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
