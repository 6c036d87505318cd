"""The command `sapiens`: what the SDK does, from a shell; exporting and serving join it as sub-commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from sapiens_client.bulk.items import DEFAULT_CONCURRENCY
from sapiens_client.cli.connection import Connection, connection_from_options, tls_from_options
from sapiens_client.cli.files import ImageFiles
from sapiens_client.cli.models import models_command
from sapiens_client.cli.run import Job, Settings, run
from sapiens_client.cli.streams import open_streams
from sapiens_client.errors import SapiensError
from sapiens_client.results.saving import Format
from sapiens_client.tasks.table import AnalysisTask
from sapiens_client.version import sdk_version
from sapiens_core.recipes.combined import HUMAN_TASKS

R = TypeVar("R")

_BOX_NUMBERS = 4

app = typer.Typer(
    help="Meta's Sapiens human vision models on Triton: export them, serve them, ask them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Images = Annotated[list[Path], typer.Argument(metavar="IMAGES", help="Image files, or folders of images.")]
Output = Annotated[Path, typer.Option("--output", "-o", file_okay=False, help="Folder for the results.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="Another of the server's ensembles for this, e.g. depth_2b; names the files.",
        show_default="TASK",
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds that one image may take.")]
Formats = Annotated[
    list[Format],
    typer.Option(
        "--format",
        default_factory=lambda: [Format.PICTURE],
        show_default="picture",
        help="What to write for every image, may be repeated. Which there are depends on the task: "
        + "; ".join(f"{form.value}: {form.content} ({form.suffix})" for form in Format),
    ),
]
Concurrency = Annotated[int, typer.Option(min=1, help="How many images to ask about at a time.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Leave out images whose results are there, as far as their names tell."),
]
Recursive = Annotated[bool, typer.Option("--recursive", help="Take the images in folders of folders, too.")]

_ABOUT: Mapping[AnalysisTask, str] = {
    AnalysisTask.DEPTH: "Estimate the relative depth of every pixel of IMAGES.",
    AnalysisTask.NORMAL: "Estimate the surface normal of every pixel of IMAGES.",
    AnalysisTask.SEG: "Find the body part or garment that every pixel of IMAGES belongs to.",
    AnalysisTask.POSE: "Find the keypoints of persons in IMAGES: in given boxes, or one per image.",
    AnalysisTask.FEATURES: "Compute the features of the pretrained backbone for IMAGES.",
    AnalysisTask.DETECT: "Find the boxes of the persons in IMAGES.",
    AnalysisTask.PEOPLE: "Find the persons in IMAGES, and their keypoints.",
}

_RULES = """

Writes photo.jpg_TASK.png and the like, and prints the path of each file written. Results of several folders,
or of files of one name, keep the path below the folder that all have in common. What a folder holds beside
images, and results of earlier runs, is left out and counted. A bad image is reported; without a server
everything stops. Files bear their names once they are complete: after an interruption the same command with
--resume goes on. COCO calls images by numbers where all their names are different numbers, else by names.
Exit status: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted.
"""


def main() -> None:
    """Run the command line; an error of the SDK or of the file system is one line and exit status 1."""
    open_streams()
    _add_other_parts()
    try:
        app()
    except (SapiensError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


def _add_other_parts() -> None:
    from sapiens_export.commands.export import export_command
    from sapiens_export.commands.verify import verify_command
    from sapiens_export.commands.zoo import zoo_command
    from sapiens_server.cli import serve_command
    from sapiens_server.doctor.command import doctor_command

    app.command("export")(export_command)
    app.command("verify")(verify_command)
    app.command("zoo")(zoo_command)
    app.command("serve")(serve_command)
    app.command("doctor")(doctor_command)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"sapiens {sdk_version()}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _settings(
    *,
    connection: Connection,
    output: Output = Path("out"),
    timeout_s: Timeout = 60.0,
    formats: Formats,
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
    resume: Resume = False,
    recursive: Recursive = False,
) -> Settings:
    return Settings(
        connection=connection,
        output=output,
        timeout_s=timeout_s,
        formats=formats,
        concurrency=concurrency,
        resume=resume,
        recursive=recursive,
    )


def _with(name: str, make: Callable[..., object], command: Callable[..., R]) -> Callable[..., R]:
    """Replace a function's parameter by the options that it is made of."""
    own, shared = (dict(signature(each, eval_str=True).parameters) for each in (command, make))
    del own[name]

    @wraps(command)
    def joined(**options: object) -> R:
        made = make(**{shared_name: options.pop(shared_name) for shared_name in shared})
        return command(**options, **{name: made})

    parameters = [*own.values(), *shared.values()]
    joined.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    joined.__annotations__ = {each.name: each.annotation for each in parameters}
    return joined


_connection = _with("tls", tls_from_options, connection_from_options)


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    return _with("connection", _connection, _with("settings", _settings, command))


app.command("models")(_with("connection", _connection, models_command))


def _add_task(task: AnalysisTask) -> None:
    def command(images: Images, *, model: Model = None, settings: Settings) -> None:
        run(
            Job(task, [task], lambda client, path: {task: getattr(client, task)(path, model=model)}, model),
            images,
            settings,
        )

    app.command(task.value, help=_ABOUT[task] + _RULES)(_with_settings(command))


def _people(
    images: Images,
    *,
    settings: Settings,
) -> None:
    task = AnalysisTask.PEOPLE
    run(Job(task, [task], lambda client, path: {task: client.people(path)}), images, settings)


def _bbox(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = ()
    if len(numbers) != _BOX_NUMBERS:
        raise typer.BadParameter(f"must be four numbers X1,Y1,X2,Y2 in pixels, got {text!r}")
    return numbers


def _pose(
    images: Images,
    *,
    bboxes: Annotated[
        list[str] | None,
        typer.Option(
            "--bbox",
            metavar="X1,Y1,X2,Y2",
            help="Box of a person, pixels; may be repeated, for a single image. Without: the whole image.",
        ),
    ] = None,
    model: Model = None,
    settings: Settings,
) -> None:
    boxes = [_bbox(text) for text in bboxes] if bboxes else None
    if boxes and (number := sum(1 for _ in ImageFiles(images, recursive=settings.recursive))) > 1:
        raise typer.BadParameter(f"--bbox is for a single image, got {number}; ask for one at a time")
    task = AnalysisTask.POSE
    run(
        Job(task, [task], lambda client, path: {task: client.pose(path, boxes, model=model)}, model),
        images,
        settings,
    )


def _analyze(
    images: Images,
    *,
    tasks: Annotated[
        list[AnalysisTask],
        typer.Option(
            "--task",
            default_factory=lambda: [AnalysisTask(task) for task in HUMAN_TASKS],
            show_default=", ".join(HUMAN_TASKS),
            help="What to ask about every image; may be repeated.",
        ),
    ],
    settings: Settings,
) -> None:
    run(Job("analyze", tasks, lambda client, path: client.analyze(path, tasks).answers), images, settings)


_COMMANDS = {AnalysisTask.POSE: _pose, AnalysisTask.PEOPLE: _people}
for _task in AnalysisTask:
    if _task in _COMMANDS:
        app.command(_task.value, help=_ABOUT[_task] + _RULES)(_with_settings(_COMMANDS[_task]))
    else:
        _add_task(_task)
app.command("analyze", help="Ask for several tasks about IMAGES at the same time." + _RULES)(
    _with_settings(_analyze)
)
