"""What the commands do about videos: ask about frames, write pictures and lines, go on another time."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sapiens_client.bulk.progress import frames_bar
from sapiens_client.cli.introductions import Introductions
from sapiens_client.cli.streams import show, tell
from sapiens_client.cli.video_files import Sink, VideoFile, sinks
from sapiens_client.errors import (
    AuthenticationError,
    ClientClosedError,
    ModelNotServedError,
    SapiensError,
    ServerUnavailableError,
)
from sapiens_client.results.saving import Format
from sapiens_client.tasks.table import CLIENT_TASKS, AnalysisTask
from sapiens_client.video.run import Video
from sapiens_client.video.sources import VIDEO_SUFFIXES, is_stream
from sapiens_client.video.wishes import Wishes, wishes

if TYPE_CHECKING:
    from sapiens_client.client import SapiensClient
    from sapiens_client.video.frames import VideoFrame
    from sapiens_client.video.wishes import VideoOptions

# No other frame would fare better.
HOPELESS = (ServerUnavailableError, AuthenticationError, ModelNotServedError, ClientClosedError)
# What a command calls its clips, also those under way.
_SUFFIXES = "|".join(suffix[1:] for suffix in sorted(VIDEO_SUFFIXES))
_RESULT = re.compile(rf"(?P<video>.+\.({_SUFFIXES}))_({'|'.join(AnalysisTask)})([_.].*)?\.mp4", re.IGNORECASE)


@dataclass(frozen=True)
class VideoJob:
    """What is asked about videos, and what is written.

    Attributes:
        tasks: What is asked about every frame.
        options: Of `SapiensClient.video`.
        output: Folder for the results.
        formats: What is written about every task.
        model: Ensemble after which files are named; None: after the tasks.
        resume: Whether to go on with what an earlier run left.
        quiet: Whether to tell of nothing but what failed.
        as_json: Whether to print a line of JSON per video instead of paths.
    """

    tasks: Sequence[AnalysisTask]
    options: VideoOptions
    output: Path
    formats: Sequence[Format]
    model: str | None
    resume: bool
    quiet: bool
    as_json: bool


def is_video(text: str) -> bool:
    """Return whether an argument means a video: by its ending, or as the address of a stream or camera."""
    return is_stream(text) or Path(text).suffix.lower() in VIDEO_SUFFIXES


def check_formats(tasks: Sequence[AnalysisTask], formats: Sequence[Format]) -> None:
    """Refuse formats that results of a task do not have.

    Raises:
        typer.BadParameter: There is one.
    """
    for task in tasks:
        offered = {*CLIENT_TASKS[task].kind.writers}
        if Format.JSON in offered:
            offered.add(Format.PARQUET)
        if missing := [form.value for form in formats if form not in offered]:
            raise typer.BadParameter(
                f"--format of {task.value} must be one of {', '.join(sorted(offered))} for videos, "
                f"got {', '.join(missing)}"
            )


class VideoRun:
    """Videos one after another; `num_failed` counts those of which a frame or all failed."""

    def __init__(self, job: VideoJob, client: SapiensClient) -> None:
        self._job, self._client = job, client
        self._introductions = Introductions(quiet=job.quiet)
        self.num_failed = 0

    def save(self, file: VideoFile) -> None:
        """Ask about a video and write what was answered.

        Raises:
            KeyboardInterrupt: After what there is was made whole.
            SapiensError: No further frame or video would fare better.
        """
        job = self._job
        try:
            with ExitStack() as open_videos:
                video = open_videos.enter_context(Video(self._client, file.source, _wishes(job)))
                work = _Writing(job, file, video)
                if job.resume and work.is_done:
                    self._note(f"{file.source}: skipped, its results are there")
                    return
                if start := work.begin():
                    self._note(f"{file.source}: goes on at frame {start}")
                    video = open_videos.enter_context(Video(self._client, file.source, _wishes(job, start)))
                self._written(work, file, video, start)
        except HOPELESS:
            raise
        except (SapiensError, OSError) as error:
            tell(f"{file.source}: {error}")
            self.num_failed += 1

    def _written(self, work: _Writing, file: VideoFile, video: Video, start: int) -> None:
        try:
            with frames_bar(is_wanted=not self._job.quiet) as bar:
                total = video.info.num_frames
                row = bar.add_task(
                    Path(file.name).name,
                    total=total and -(-total // file.every),
                    completed=start // file.every,
                    rate="",
                )
                for frame in video:
                    work.add(frame)
                    self._introduce(frame)
                    bar.advance(row)
                    speed = bar.tasks[row].speed
                    bar.update(row, rate=f"{speed:.1f} frames/s" if speed else "")
        except KeyboardInterrupt:
            work.stop()
            if not video.info.is_live:
                tell(f"{file.source}: interrupted after {work.num_frames} frames, which are in *{file.mark}*")
                raise
        except BaseException:
            work.stop()
            raise
        self._end(work, file, video)

    def _introduce(self, frame: VideoFrame) -> None:
        for result in () if frame.error else frame.results.values():
            self._introductions.of(result)

    def _end(self, work: _Writing, file: VideoFile, video: Video) -> None:
        paths = work.finish()
        if video.problem:
            tell(f"{file.source}: {video.problem}")
        if work.errors:
            tell(f"{file.source}: {len(work.errors)} frames without all results, first: {work.errors[0]}")
            self.num_failed += 1
        self._note(f"{file.source}: {work.num_frames} frames")
        if self._job.as_json:
            results = {task: {"files": [str(path) for path in some]} for task, some in paths.items()}
            facts = {"frames": work.num_frames, "problem": video.problem, "errors": work.errors}
            show(json.dumps({"video": file.source, "results": results, **facts}))
        else:
            for path in [path for some in paths.values() for path in some]:
                show(path)

    def _note(self, words: str) -> None:
        if not self._job.quiet:
            tell(words)


@contextmanager
def _after_which_ctrl_c_counts() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block or function: a frame is whole in all files or in none."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    for number in pressed:
        signal.raise_signal(number)


class _Writing:
    """The files about one video."""

    def __init__(self, job: VideoJob, file: VideoFile, video: Video) -> None:
        self._job, self._every, self._is_live = job, file.every, video.info.is_live
        self._sinks: dict[AnalysisTask, list[Sink]] = {
            task: sinks(job.output, file, video.info, job.model or task.value, job.formats)
            for task in job.tasks
        }
        self.num_frames = 0
        self.errors: list[str] = []

    @property
    def is_done(self) -> bool:
        """Whether all results are there; of a folder with a file per frame only asking tells."""
        return all(sink.path.is_file() for sink in self._all)

    @property
    def _all(self) -> list[Sink]:
        return [sink for some in self._sinks.values() for sink in some]

    def begin(self) -> int:
        """Open the files; return the index of the frame from which there is something to do."""
        goes_on = self._job.resume and not self._is_live
        kept = min(sink.num_kept() for sink in self._all) if goes_on else 0
        for sink in self._all:
            sink.path.parent.mkdir(parents=True, exist_ok=True)
            sink.begin(kept)
        self.num_frames = kept
        return kept * self._every

    @_after_which_ctrl_c_counts()
    def add(self, frame: VideoFrame) -> None:
        """Write what became of a frame.

        Raises:
            SapiensError: No other frame would fare better.
        """
        words = []
        for task, some in self._sinks.items():
            answer = frame.error or frame.results.answers[task]
            if isinstance(answer, HOPELESS):
                raise answer
            if isinstance(answer, SapiensError):
                words.append(str(answer))
            mine = frame if task == _followed(self._job.tasks) else replace(frame, track_ids=None)
            for sink in some:
                sink.add(mine, answer)
        if words:
            self.errors.append(f"frame {frame.index}: {words[0]}")
        self.num_frames += 1

    def stop(self) -> None:
        """Leave what there is."""
        for sink in self._all:
            sink.stop()

    def finish(self) -> dict[str, list[Path]]:
        """Give the results their names, and return them."""
        for sink in self._all:
            sink.finish()
        return {task.value: [sink.path for sink in some] for task, some in self._sinks.items()}


def _followed(tasks: Sequence[AnalysisTask]) -> AnalysisTask:
    """Return the task whose persons tracks are about."""
    return AnalysisTask.PEOPLE if AnalysisTask.PEOPLE in tasks else AnalysisTask.DETECT


def video_files(videos: Sequence[str], every: int) -> list[VideoFile]:
    """Return what videos are called, each once, without clips that are results about others of them.

    Where names do not tell files apart, results keep the path below the folder that all have in common.
    """
    streams = [text for text in videos if is_stream(text)]
    places = {os.path.abspath(text): text for text in videos if not is_stream(text)}  # noqa: PTH100
    named = {place: Path(place).name for place in places if not _is_result(place)}
    if len({*named.values()}) < len(named):
        root = os.path.commonpath([*map(os.path.dirname, named)])
        named = {place: Path(os.path.relpath(place, root)).as_posix() for place in named}
    files = [VideoFile(places[place], name, has_sound=True, every=every) for place, name in named.items()]
    return [*files, *(VideoFile.at(text, every) for text in dict.fromkeys(streams))]


def _is_result(place: str) -> bool:
    match = _RESULT.fullmatch(Path(place).name)
    return match is not None and Path(place).with_name(match["video"]).exists()


def _wishes(job: VideoJob, start: int = 0) -> Wishes:
    return wishes(job.tasks, {**job.options, "start": start, "on_error": "yield"})
