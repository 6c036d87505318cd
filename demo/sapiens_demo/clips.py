"""What the page asks about a video, frame by frame, into a clip with its sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sapiens_client.cli.video_files import VideoFile, sinks
from sapiens_client.cli.videos import HOPELESS
from sapiens_client.errors import InvalidInputError, SapiensError
from sapiens_client.results.saving import Format
from sapiens_client.tasks.table import CLIENT_TASKS, AnalysisTask
from sapiens_demo.answers import archive
from sapiens_demo.figures import facts, sentence

if TYPE_CHECKING:
    from sapiens_client.client import SapiensClient
    from sapiens_client.results.base import Result

MAX_FRAMES = 3000  # minutes, for which people wait
_WRITTEN = (Format.PICTURE, Format.JSON)


@dataclass(frozen=True)
class Clip:
    """How far a video is, and what there is of it in the end.

    Attributes:
        num_frames: How many frames were asked about.
        total: Of how many; None: the video does not say.
        movie: The pictures of the results, once all are there.
        download: An archive of the movie and the results, likewise.
        facts: HTML: who answered, and what went wrong.
    """

    num_frames: int
    total: int | None
    movie: Path | None = None
    download: Path | None = None
    facts: str = ""


def followed(client: SapiensClient, video: Path, task: str, every: int, folder: Path) -> Iterator[Clip]:
    """Ask about the frames of a video; tell after each how far it is.

    Args:
        client: Of the server.
        video: A file.
        task: What to ask for.
        every: Every n-th frame.
        folder: For the files.

    Raises:
        SapiensError: It is no video, it is too long, or no frame would be answered.
    """
    wanted = AnalysisTask(task)
    forms = [form for form in _WRITTEN if form in CLIENT_TASKS[wanted].kind.writers]
    last: Result | None = None
    errors: list[SapiensError] = []
    number = 0
    with ExitStack() as opened:
        frames = opened.enter_context(client.video(video, wanted, every=every, on_error="yield"))
        total = None if frames.info.num_frames is None else -(-frames.info.num_frames // every)
        _check_length(total or 0, task)
        file = VideoFile(str(video), video.name, has_sound=True, every=every)
        written = sinks(folder, file, frames.info, task, forms)
        for sink in written:
            sink.begin(0)
            opened.callback(sink.stop)
        for number, frame in enumerate(frames, 1):
            _check_length(number, task)
            answer = frame.error or frame.results.answers[task]
            if isinstance(answer, HOPELESS):
                raise answer
            if isinstance(answer, SapiensError):
                errors.append(answer)
            else:
                last = answer
            for sink in written:
                sink.add(frame, answer)
            yield Clip(number, total)
        for sink in written:
            sink.finish()
        paths = [sink.path for sink in written]
    words = [f"{len(errors)} frames without results, first: {errors[0]}"] if errors else []
    words += [frames.problem] if frames.problem else []
    told = sentence(f"{number} frames") + (facts({f"last {task}": last}) if last else "")
    told += "".join(sentence(each, is_error=True) for each in words)
    yield Clip(number, total, paths[0], archive(paths, folder / "sapiens.zip"), told)


def _check_length(number: int, task: str) -> None:
    if number > MAX_FRAMES:
        raise InvalidInputError(
            f"the page takes videos of at most {MAX_FRAMES} frames, got {number}; take fewer of them, or run "
            f"`sapiens {task} clip.mp4`"
        )
