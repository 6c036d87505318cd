"""The command `sapiens`: what the SDK does, from a shell; exporting and serving join it as sub-commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.console import Console
from rich.progress import Progress

from sapiens_client.cli_files import image_paths, output_names
from sapiens_client.client import SapiensClient
from sapiens_client.errors import ModelNotServedError, SapiensError, ServerUnavailableError
from sapiens_client.questions import QUESTIONS, AnalysisTask
from sapiens_client.saving import Format
from sapiens_core.tasks import HUMAN_TASKS

if TYPE_CHECKING:
    from sapiens_client.results import Result
    from sapiens_client.saving import ImageId
    from sapiens_core.model_info import ModelInfo

_BOX_NUMBERS = 4

app = typer.Typer(
    help="Meta's Sapiens human vision models on Triton: export them, serve them, ask them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Answers: TypeAlias = "Mapping[str, Result | SapiensError]"
Ask: TypeAlias = "Callable[[SapiensClient, Path], Answers]"

Images = Annotated[list[Path], typer.Argument(metavar="IMAGES", help="Image files, or folders of images.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Url = Annotated[
    str | None,
    typer.Option(help="host:port of the server.", show_default="$SAPIENS_URL, else localhost:8001"),
]
Model = Annotated[
    str | None,
    typer.Option(help="Another of the server's ensembles for this, e.g. depth_2b.", show_default="TASK"),
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

Writes NAME_TASK.png and the like, and prints the path of each file written.
A bad image is reported and left out; without a server everything stops.
Exit status: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted.
"""


@dataclass(frozen=True)
class _Job:
    """What a command was told.

    Attributes:
        title: What the progress bar calls it.
        tasks: What is asked about every image.
        ask: How.
        formats: What is written.
    """

    title: str
    tasks: Sequence[AnalysisTask]
    ask: Ask
    formats: Sequence[Format]


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
    from sapiens_export.cli_verify import verify_command
    from sapiens_export.cli_zoo import zoo_command
    from sapiens_server.cli import serve_command

    app.command("export")(export_command)
    app.command("verify")(verify_command)
    app.command("zoo")(zoo_command)
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


def _add_task(task: AnalysisTask) -> None:
    def command(
        images: Images,
        *,
        model: Model = None,
        output: Output = Path("out"),
        url: Url = None,
        timeout_s: Timeout = 60.0,
        formats: Formats,
    ) -> None:
        job = _Job(
            task, [task], lambda client, path: {task: getattr(client, task)(path, model=model)}, formats
        )
        _run(job, image_paths(images), output, url, timeout_s)

    app.command(task.value, help=_ABOUT[task] + _RULES)(command)


def _people(
    images: Images,
    *,
    output: Output = Path("out"),
    url: Url = None,
    timeout_s: Timeout = 60.0,
    formats: Formats,
) -> None:
    task = AnalysisTask.PEOPLE
    job = _Job(task, [task], lambda client, path: {task: client.people(path)}, formats)
    _run(job, image_paths(images), output, url, timeout_s)


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
    output: Output = Path("out"),
    url: Url = None,
    timeout_s: Timeout = 60.0,
    formats: Formats,
) -> None:
    paths = image_paths(images)
    boxes = [_bbox(text) for text in bboxes] if bboxes else None
    if boxes and len(paths) > 1:
        raise typer.BadParameter(f"--bbox is for a single image, got {len(paths)}; ask for one at a time")
    task = AnalysisTask.POSE
    job = _Job(task, [task], lambda client, path: {task: client.pose(path, boxes, model=model)}, formats)
    _run(job, paths, output, url, timeout_s)


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
    output: Output = Path("out"),
    url: Url = None,
    timeout_s: Timeout = 60.0,
    formats: Formats,
) -> None:
    job = _Job("analyze", tasks, lambda client, path: client.analyze(path, tasks), formats)
    _run(job, image_paths(images), output, url, timeout_s)


_COMMANDS = {AnalysisTask.POSE: _pose, AnalysisTask.PEOPLE: _people}
for _task in AnalysisTask:
    if _task in _COMMANDS:
        app.command(_task.value, help=_ABOUT[_task] + _RULES)(_COMMANDS[_task])
    else:
        _add_task(_task)
app.command("analyze", help="Ask for several tasks about IMAGES at the same time." + _RULES)(_analyze)


def _run(job: _Job, paths: Sequence[Path], folder: Path, url: str | None, timeout_s: float) -> None:
    _check_formats(job)
    folder.mkdir(parents=True, exist_ok=True)
    with SapiensClient(url, timeout_s=timeout_s) as client:
        num_failed = _save_all(job, client, paths, folder)
    if num_failed:
        typer.echo(f"{num_failed} of {len(paths)} images failed", err=True)
        raise typer.Exit(1)


def _check_formats(job: _Job) -> None:
    for task in job.tasks:
        offered = QUESTIONS[task].kind.writers
        if missing := [form.value for form in job.formats if form not in offered]:
            raise typer.BadParameter(
                f"--format of {task.value} must be one of {', '.join(offered)}, got {', '.join(missing)}"
            )


def _save_all(job: _Job, client: SapiensClient, paths: Sequence[Path], folder: Path) -> int:
    """Return how many images failed, wholly or in one task."""
    failed: set[Path] = set()
    introduced: set[ModelInfo] = set()
    names = output_names(paths)
    with _progress() as progress:
        for path, name in progress.track(list(zip(paths, names, strict=True)), description=job.title):
            for task, answer in _answers(job, client, path):
                try:
                    stem = str(folder / f"{name}_{task}")
                    files = _saved(answer, stem, job.formats, _image_id(name), introduced)
                except (ServerUnavailableError, ModelNotServedError):
                    raise
                except (SapiensError, OSError) as error:
                    typer.echo(f"{path}: {error}", err=True)
                    failed.add(path)
                    continue
                for file in files:
                    typer.echo(file)
    return len(failed)


def _answers(job: _Job, client: SapiensClient, path: Path) -> Iterable[tuple[str, Result | SapiensError]]:
    try:
        return job.ask(client, path).items()
    except SapiensError as error:
        return [(job.title, error)]


def _saved(
    answer: Result | SapiensError,
    stem: str,
    formats: Iterable[Format],
    image_id: ImageId,
    introduced: set[ModelInfo],
) -> list[Path]:
    """Return the files that an answer was written to."""
    if isinstance(answer, SapiensError):
        raise answer
    files = [file for form in formats for file in answer.save(stem + form.suffix, image_id=image_id)]
    _introduce(answer.model, introduced)
    return files


def _image_id(name: str) -> ImageId:
    """Return the number that names an image file in COCO, else its name."""
    return int(name) if name.isdecimal() else name


def _progress() -> Progress:
    console = Console(stderr=True)
    # Paths go above the bar where standard output is the terminal too, else where it is sent.
    return Progress(console=console, disable=not console.is_terminal, redirect_stdout=sys.stdout.isatty())


def _introduce(model: ModelInfo, introduced: set[ModelInfo]) -> None:
    """Tell once where a model comes from."""
    if model in introduced:
        return
    introduced.add(model)
    words = f"{model.task} by {model.family} {model.size}, licence of the weights: {model.licence}"
    typer.echo(words, err=True)
    if model.untrained:
        typer.echo("the served model is untrained (random weights): its results mean nothing", err=True)
