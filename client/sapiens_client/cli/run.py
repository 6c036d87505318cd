"""What the commands that ask about images have in common: ask, save, count, and go on another time."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import typer

from sapiens_client.bulk.progress import progress_bar
from sapiens_client.bulk.run import mapped
from sapiens_client.cli.files import STDIN, ImageFile, ImageFiles, listed
from sapiens_client.cli.introductions import Introductions
from sapiens_client.cli.streams import show, tell
from sapiens_client.cli.videos import HOPELESS, VideoJob, VideoRun, check_formats, is_video, video_files
from sapiens_client.errors import SapiensError
from sapiens_client.results.detections import DetectionResult
from sapiens_client.results.people import PoseResult
from sapiens_client.results.pointmap import SURFACES, PointmapResult
from sapiens_client.results.saving import Format
from sapiens_client.tasks.table import CLIENT_TASKS, AnalysisTask
from sapiens_client.video.wishes import VideoOptions

if TYPE_CHECKING:
    from sapiens_client.cli.connection import Connection
    from sapiens_client.client import SapiensClient
    from sapiens_client.connection.options import FloatType
    from sapiens_client.results.base import Result
    from sapiens_client.tasks.images import ImageLike

Answers: TypeAlias = "Mapping[str, Result | SapiensError]"
Ask: TypeAlias = "Callable[[SapiensClient, ImageLike], Answers]"

INTERRUPTED = 130


@dataclass(frozen=True)
class Job:
    """What a command asks.

    Attributes:
        title: What the progress bar calls it.
        tasks: What is asked about every image.
        ask: How.
        model: Ensemble that is asked instead of the task's own, after which files are named then.
        edge_tolerance: Where meshes of points have edges; None: points, see `PointmapResult.save`.
    """

    title: str
    tasks: Sequence[AnalysisTask]
    ask: Ask
    model: str | None = None
    edge_tolerance: float | None = None


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Choices that need nothing else to be known.

    Attributes:
        resume: Leave out images whose results are there.
        recursive: Take the images in folders of folders, too.
        quiet: Tell of nothing but what failed.
        as_json: Print what became of each image as a line of JSON.
        dtype: Of results that are float and as large as the image.
    """

    resume: bool
    recursive: bool
    quiet: bool
    as_json: bool
    dtype: FloatType


@dataclass(frozen=True, kw_only=True)
class VideoWishes:
    """What is wished of videos, as `SapiensClient.video` describes it.

    Attributes:
        every: Every n-th frame.
        det_frequency: Every n-th of these has its persons looked for.
        smooth: Whether keypoints and boxes are smoothed.
        smooth_maps: How much of a map stays where nothing moves, 0..1.
    """

    every: int = 1
    det_frequency: int = 1
    smooth: bool = False
    smooth_maps: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Settings(Flags):
    """How a command does it.

    Attributes:
        connection: Where servers are, and who asks them.
        output: Folder for the results.
        timeout_s: How long one image may take. [s]
        formats: What is written about every task.
        concurrency: How many images are asked about at a time.
        video: What is wished of videos.
    """

    connection: Connection
    output: Path
    timeout_s: float
    formats: Sequence[Format]
    concurrency: int
    video: VideoWishes


def run(job: Job, images: Sequence[str], settings: Settings) -> None:
    """Ask about images and videos and save the answers; ends with lines that count them.

    Raises:
        InvalidInputError: A folder holds no image.
        SapiensError: No server, or it wants another token, or does not serve the task.
        OSError: A folder cannot be read, or that for results not be made.
        typer.Exit: The options about the connection cannot be used, something failed, or was interrupted.
    """
    videos = [image for image in images if is_video(image)]
    paths = [Path(image) for image in images if not is_video(image)]
    if not videos and settings.video != VideoWishes():
        raise typer.BadParameter("--every, --det-frequency, --smooth and --smooth-maps are for videos")
    files = ImageFiles(paths, recursive=settings.recursive)
    if videos:
        check_formats(job.tasks, settings.formats)
    if paths:
        _check_formats(job, settings.formats)
        files.check()
    num_failed = 0
    settings.output.mkdir(parents=True, exist_ok=True)
    with settings.connection.client(settings.timeout_s) as connected:
        client = connected.with_options(dtype=settings.dtype)
        if videos:
            num_failed += _watch(job, videos, settings, client)
        if paths:
            num_failed += _look(job, files, settings, client)
    if num_failed:
        raise typer.Exit(1)


def _watch(job: Job, videos: Sequence[str], settings: Settings, client: SapiensClient) -> int:
    """Ask about videos; return how many failed."""
    wished = settings.video
    options = VideoOptions(
        det_frequency=wished.det_frequency,
        smooth=wished.smooth,
        smooth_maps=wished.smooth_maps,
        concurrency=settings.concurrency,
        every=wished.every,
        model=job.model,
    )
    flags = {name: getattr(settings, name) for name in ("resume", "quiet", "as_json")}
    work = VideoRun(
        VideoJob(job.tasks, options, settings.output, settings.formats, job.model, **flags), client
    )
    try:
        for file in video_files(videos, wished.every):
            work.save(file)
    except KeyboardInterrupt:
        tell("interrupted, the same command with --resume goes on")
        raise typer.Exit(INTERRUPTED) from None
    return work.num_failed


def _look(job: Job, files: ImageFiles, settings: Settings, client: SapiensClient) -> int:
    """Ask about images; return how many failed."""
    work = _Run(job, settings, client, files)
    try:
        work.save_all()
    except KeyboardInterrupt:
        tell(f"{work.summary}; interrupted, the same command with --resume goes on")
        raise typer.Exit(INTERRUPTED) from None
    except SapiensError:
        if work.has_begun:
            tell(f"{work.summary}; the same command with --resume goes on")
        raise
    if work.left_out:
        work.note(f"left out: {listed(work.left_out)}")
    work.note(work.summary)
    return work.num_failed


def _check_formats(job: Job, formats: Sequence[Format]) -> None:
    for task in job.tasks:
        offered = CLIENT_TASKS[task].kind.writers
        if missing := [form.value for form in formats if form not in offered]:
            raise typer.BadParameter(
                f"--format of {task.value} must be one of {', '.join(offered)}, got {', '.join(missing)}"
            )


class _Run:
    def __init__(self, job: Job, settings: Settings, client: SapiensClient, files: ImageFiles) -> None:
        self._job = job
        self._settings = settings
        self._client = client
        self._introductions = Introductions(quiet=settings.quiet)
        self._files = files
        self._has_numbers = Format.JSON in settings.formats and files.have_numbers()
        self.left_out: Counter[str] = Counter()
        self._num_done = self._num_skipped = self.num_failed = 0

    @property
    def summary(self) -> str:
        """How many images came to what."""
        return f"{self._num_done} done, {self._num_skipped} skipped, {self.num_failed} failed"

    @property
    def has_begun(self) -> bool:
        """Whether an image came to anything."""
        return self._num_done + self._num_skipped + self.num_failed > 0

    def note(self, words: str) -> None:
        """Tell what only matters to who has not asked for quiet."""
        if not self._settings.quiet:
            tell(words)

    def save_all(self) -> None:
        """Ask on several threads, save on this one: whoever interrupts it interrupts no other writer."""
        with progress_bar(is_wanted=not self._settings.quiet) as bar:
            total = None if bar.disable else sum(1 for _ in self._files)
            row = bar.add_task(self._job.title, total=total)
            wanted = self._wanted(lambda: bar.advance(row))
            with closing(mapped(self._asked, wanted, concurrency=self._settings.concurrency)) as items:
                for item in items:
                    self._save(*item.result)
                    bar.advance(row)

    def _wanted(self, advance: Callable[[], None]) -> Iterator[ImageFile]:
        settings = self._settings
        for image in self._files.found(self.left_out):
            names = [self._job.model or task for task in self._job.tasks]
            if settings.resume and image.is_done(settings.output, names, settings.formats):
                self._num_skipped += 1
                advance()
            else:
                yield image

    def _asked(self, image: ImageFile) -> tuple[ImageFile, Answers]:
        try:
            content = sys.stdin.buffer.read() if image.path == STDIN else image.path
            return image, self._job.ask(self._client, content)
        except SapiensError as error:
            return image, {self._job.title: error}

    def _save(self, image: ImageFile, answers: Answers) -> None:
        """Write what was answered and report what was not; images count as failed also for one task."""
        files: dict[str, list[Path]] = {}
        errors: dict[str, str] = {}
        try:
            for task, answer in answers.items():
                try:
                    files[task] = self._saved(image, task, answer)
                except HOPELESS:
                    raise
                except (SapiensError, OSError) as error:
                    tell(f"{image.path}: {error}")
                    errors[task] = str(error)
            self.num_failed += bool(errors)
            self._num_done += not errors
        finally:
            if self._settings.as_json:
                show(_line(image, answers, files, errors))
            else:
                for file in chain(*files.values()):  # once they are counted: whoever reads them may interrupt
                    show(file)

    def _saved(self, image: ImageFile, task: str, answer: Result | SapiensError) -> list[Path]:
        if isinstance(answer, SapiensError):
            raise answer
        files: list[Path] = []
        for form in self._settings.formats:
            path = image.result(self._settings.output, self._job.model or task, form.suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            image_id = image.image_id(is_number=self._has_numbers)
            if isinstance(answer, PointmapResult) and form in SURFACES:
                files += answer.save(path, image_id=image_id, edge_tolerance=self._job.edge_tolerance)
            else:
                files += answer.save(path, image_id=image_id)
        self._introductions.of(answer)
        if isinstance(answer, DetectionResult | PoseResult) and not len(answer.bboxes):
            self.note(f"0 persons found in {image.path}")
        return files


def _line(
    image: ImageFile, answers: Answers, files: Mapping[str, list[Path]], errors: Mapping[str, str]
) -> str:
    """Return as JSON what became of an image."""
    results = {}
    for task, paths in files.items():
        facts: dict[str, object] = {"files": [str(path) for path in paths]}
        if not isinstance(answer := answers[task], SapiensError):
            facts |= {"request_id": answer.request_id, "url": answer.url, "total_s": answer.timing.total_s}
        if isinstance(answer, DetectionResult | PoseResult):
            facts["persons"] = len(answer)
        results[task] = facts
    return json.dumps({"image": str(image.path), "results": results, "errors": errors})
