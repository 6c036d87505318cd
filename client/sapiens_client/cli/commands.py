"""The commands that ask servers: what the SDK does, from a shell."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from sapiens_client.bulk.items import DEFAULT_CONCURRENCY
from sapiens_client.cli.connection import Connection, connection_from_options, tls_from_options
from sapiens_client.cli.files import ImageFiles
from sapiens_client.cli.group import ABOUT, new_app, unwrapped
from sapiens_client.cli.models import models_command
from sapiens_client.cli.ready import ready_command
from sapiens_client.cli.run import Flags, Job, Settings, VideoWishes, run
from sapiens_client.cli.videos import is_video
from sapiens_client.connection.options import FloatType
from sapiens_client.results.pointmap import SURFACES
from sapiens_client.results.saving import Format
from sapiens_client.tasks.table import AnalysisTask
from sapiens_core.recipes.combined import HUMAN_TASKS

R = TypeVar("R")

_BOX_NUMBERS = 4

app = new_app()

Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES",
        help="Image files, or folders of images; - is standard input. Or videos: files such as clip.mp4, "
        "addresses such as rtsp://camera/live, cameras such as /dev/video0.",
    ),
]
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
FloatTypes = Annotated[
    FloatType,
    typer.Option(
        "--dtype",
        help="Of depth, normals, points and mattes: float16 halves what travels and what is saved as arrays.",
    ),
]
Concurrency = Annotated[int, typer.Option(min=1, help="How many images to ask about at a time.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Skip images whose result files are there, by their names."),
]
Recursive = Annotated[bool, typer.Option("--recursive", help="Take the images in folders of folders, too.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Write only what failed to standard error; no progress bar.")
]
_VIDEO_PANEL = "Videos"
Every = Annotated[int, typer.Option(min=1, help="Take every n-th frame.", rich_help_panel=_VIDEO_PANEL)]
DetFrequency = Annotated[
    int,
    typer.Option(
        min=1,
        help="For people: look for persons in every n-th frame only, and move their boxes between.",
        rich_help_panel=_VIDEO_PANEL,
    ),
]
Smooth = Annotated[
    bool,
    typer.Option("--smooth", help="Smooth keypoints and boxes over time.", rich_help_panel=_VIDEO_PANEL),
]
SmoothMaps = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.99,
        help="How much of depth, normals and mattes stays where nothing moves.",
        rich_help_panel=_VIDEO_PANEL,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="Print a line of JSON per image, with its files, results and errors, instead of paths."
    ),
]

_RULES = """

Writes photo.jpg_TASK.png and the like, and prints the path of each file written. Results of several folders,
or of files of one name, keep the path below the folder that all have in common. What a folder holds beside
images, and results of earlier runs, is left out and counted. A bad image is reported; without a server
everything stops. Files get their names once they are complete: after an interruption the same command with
--resume goes on. In COCO results images have numbers where all their names are different numbers, else names.

Of a video, picture is clip.mp4_TASK.mp4 with its sound, json a line per frame (.jsonl), parquet a row per
result, and each other format a folder with a file per frame. What is under way is called *.part.* and plays.

Exit status: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted.
"""


def _settings(
    *,
    connection: Connection,
    output: Output = Path("out"),
    timeout_s: Timeout = 60.0,
    formats: Formats,
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
    flags: Flags,
    video: VideoWishes,
) -> Settings:
    return Settings(
        connection=connection,
        output=output,
        timeout_s=timeout_s,
        formats=formats,
        concurrency=concurrency,
        video=video,
        **vars(flags),
    )


def _flags(
    *,
    resume: Resume = False,
    recursive: Recursive = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    dtype: FloatTypes = "float32",
) -> Flags:
    return Flags(resume=resume, recursive=recursive, quiet=quiet, as_json=as_json, dtype=dtype)


def _video(
    *,
    every: Every = 1,
    det_frequency: DetFrequency = 1,
    smooth: Smooth = False,
    smooth_maps: SmoothMaps = 0.0,
) -> VideoWishes:
    return VideoWishes(every=every, det_frequency=det_frequency, smooth=smooth, smooth_maps=smooth_maps)


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


def with_connection(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command, in place of its parameter `connection`, the options that say where servers are."""
    return _with("connection", _connection, command)


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    with_flags = _with("flags", _flags, _with("settings", _settings, command))
    return with_connection(_with("video", _video, with_flags))


app.command("models", help=unwrapped(models_command.__doc__))(with_connection(models_command))
app.command("ready", help=unwrapped(ready_command.__doc__))(with_connection(ready_command))


def _add_task(task: AnalysisTask) -> None:
    def command(images: Images, *, model: Model = None, settings: Settings) -> None:
        run(
            Job(task, [task], lambda client, path: {task: getattr(client, task)(path, model=model)}, model),
            images,
            settings,
        )

    app.command(task.value, help=unwrapped(ABOUT[task] + _RULES))(_with_settings(command))


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
    if boxes and any(map(is_video, images)):
        raise typer.BadParameter(
            "--bbox is for a single image, got a video; `sapiens people` finds the boxes"
        )
    paths = map(Path, images)
    if boxes and (number := sum(1 for _ in ImageFiles(paths, recursive=settings.recursive))) > 1:
        raise typer.BadParameter(f"--bbox is for a single image, got {number}; ask for one at a time")
    task = AnalysisTask.POSE
    run(
        Job(task, [task], lambda client, path: {task: client.pose(path, boxes, model=model)}, model),
        images,
        settings,
    )


def _pointmap(
    images: Images,
    *,
    edge_tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="With --format ply or glb: a mesh, with an edge where neighbouring pixels differ in depth "
            "by more than this, relative to the nearer one, e.g. 0.04.",
            show_default="points",
        ),
    ] = None,
    model: Model = None,
    settings: Settings,
) -> None:
    if edge_tolerance is not None and not SURFACES.keys() & {*settings.formats}:
        raise typer.BadParameter(f"--edge-tolerance needs --format {' or '.join(SURFACES)}")
    task = AnalysisTask.POINTMAP
    run(
        Job(
            task,
            [task],
            lambda client, path: {task: client.pointmap(path, model=model)},
            model,
            edge_tolerance,
        ),
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
            help="What to ask about every image; repeatable. Of the second family: pointmap, normal, seg.",
        ),
    ],
    settings: Settings,
) -> None:
    run(Job("analyze", tasks, lambda client, path: client.analyze(path, tasks).answers), images, settings)


_COMMANDS = {AnalysisTask.POSE: _pose, AnalysisTask.PEOPLE: _people, AnalysisTask.POINTMAP: _pointmap}
for _task in AnalysisTask:
    if _task in _COMMANDS:
        app.command(_task.value, help=unwrapped(ABOUT[_task] + _RULES))(_with_settings(_COMMANDS[_task]))
    else:
        _add_task(_task)
app.command("analyze", help=unwrapped(ABOUT["analyze"] + _RULES))(_with_settings(_analyze))
