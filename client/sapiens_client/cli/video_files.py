"""What is written about a video: pieces while it goes on, whole files in the end.

Files under way are called `*.part.*` and play or read as they are. Who goes on starts after the last frame
that all of them have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

from sapiens_client.cli.video_lines import line, write_parquet
from sapiens_client.errors import SapiensError
from sapiens_client.results.detections import DetectionResult
from sapiens_client.results.people import PoseResult
from sapiens_client.results.saving import Format
from sapiens_client.video.encoding import Piece, ends, frame_times, joined

if TYPE_CHECKING:
    from sapiens_client.results.base import Result
    from sapiens_client.video.decoding import VideoInfo
    from sapiens_client.video.frames import VideoFrame

_NOT_IN_NAMES = re.compile("[^A-Za-z0-9.-]+")
_MAX_NAME = 100


@dataclass(frozen=True)
class VideoFile:
    """A video that a command line means.

    Attributes:
        source: Path or address.
        name: What its results are called, below the folder for results.
        has_sound: Whether it is a file, whose sound can be read once more.
        every: Every n-th frame is asked about; what is under way is called after it.
    """

    source: str
    name: str
    has_sound: bool
    every: int = 1

    @property
    def mark(self) -> str:
        """What the names of files under way have before their end."""
        return ".part" if self.every == 1 else f".every{self.every}.part"

    @classmethod
    def at(cls, address: str, every: int) -> VideoFile:
        """Return a stream or camera, whose results are called as its address without what may be secret."""
        from sapiens_client.tasks.fetch import without_secrets

        name = _NOT_IN_NAMES.sub("_", without_secrets(address)).strip("_.")
        return cls(address, name[:_MAX_NAME] or "video", has_sound=False, every=every)


class Sink(Protocol):
    """Takes a frame after the other."""

    @property
    def path(self) -> Path:
        """What it is called in the end."""
        ...

    def num_kept(self) -> int:
        """How many frames an earlier run left."""
        ...

    def begin(self, num_kept: int) -> None:
        """Start after so many of them; 0 starts anew."""
        ...

    def add(self, frame: VideoFrame, answer: Result | SapiensError) -> None:
        """Take the next frame."""
        ...

    def stop(self) -> None:
        """Leave what there is, for a later run to go on with."""
        ...

    def finish(self) -> None:
        """Give the result its name."""
        ...


class Movie:
    """Pictures of the results as an MP4 with the sound of the video.

    Args:
        path: Of the result.
        video: What the results are about.
        info: What it says of itself.
    """

    def __init__(self, path: Path, video: VideoFile, info: VideoInfo) -> None:
        self.path = path
        self._video, self._info = video, info
        self._piece: Piece | None = None

    def num_kept(self) -> int:
        """Count the frames of the pieces, without what later pieces replace."""
        times = [each for piece in self._pieces() if (each := frame_times(piece))]
        kept = zip(times, ends([each[0] for each in times]), strict=True)
        return sum(time_s < end_s - 1e-6 for each, end_s in kept for time_s in each)

    def begin(self, num_kept: int) -> None:
        """Start another piece."""
        pieces = self._pieces()
        if not num_kept:
            for piece in pieces:
                piece.unlink()
            pieces = []
        number = f"{len(pieces) + 1}" if pieces else ""
        self._piece = Piece(
            self.path.with_name(f"{self.path.stem}{self._video.mark}{number}.mp4"), self._info.rate
        )

    def add(self, frame: VideoFrame, answer: Result | SapiensError) -> None:
        """Draw a result, or the bare frame where there is none."""
        if self._piece is not None:
            self._piece.add(_picture(frame, answer), frame.time_s)

    def stop(self) -> None:
        """Close the piece, which plays."""
        if self._piece is not None:
            self._piece.close()
            self._piece = None

    def finish(self) -> None:
        """Join the pieces, with the sound."""
        self.stop()
        pieces = [(piece, times) for piece in self._pieces() if (times := frame_times(piece))]
        draft = self.path.with_name(f".{self.path.name}")
        sound_of = self._video.source if self._video.has_sound else None
        joined([piece for piece, _ in pieces], [times[0] for _, times in pieces], draft, sound_of)
        draft.replace(self.path)
        for piece in self._pieces():
            piece.unlink()

    def _pieces(self) -> list[Path]:
        named = re.compile(re.escape(self.path.stem + self._video.mark) + r"(\d*)\.mp4")
        found = [
            (match, path) for path in self.path.parent.glob("*.mp4") if (match := named.fullmatch(path.name))
        ]
        return [path for _, path in sorted(found, key=lambda each: int(each[0][1] or 1))]


class Lines:
    """A line of JSON per frame; in the end they may become Parquet.

    Args:
        path: Of the result, *.jsonl or *.parquet.
        mark: What the name of the file under way has before its end.
    """

    def __init__(self, path: Path, mark: str) -> None:
        self.path = path
        kind = mark if path.suffix == ".jsonl" else f"{path.suffix}{mark}"
        self._part = path.with_name(f"{path.stem}{kind}.jsonl")
        self._file: IO[bytes] | None = None

    def num_kept(self) -> int:
        """Count the whole lines."""
        return self._part.read_bytes().count(b"\n") if self._part.is_file() else 0

    def begin(self, num_kept: int) -> None:
        """Leave out what is too much."""
        kept = self._part.read_bytes().splitlines(keepends=True)[:num_kept] if num_kept else []
        self._part.write_bytes(b"".join(kept))
        self._file = self._part.open("ab")

    def add(self, frame: VideoFrame, answer: Result | SapiensError) -> None:
        """Write a line, at once."""
        if self._file is not None:
            self._file.write((json.dumps(line(frame, answer)) + "\n").encode())
            self._file.flush()

    def stop(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self) -> None:
        """Give the lines their name, or make a table of them."""
        self.stop()
        if self.path.suffix == ".parquet":
            write_parquet(self._part, self.path)
            self._part.unlink()
        else:
            self._part.replace(self.path)


class Files:
    """A file per frame, in a folder.

    Args:
        folder: For the files.
        form: What each is.
    """

    def __init__(self, folder: Path, form: Format) -> None:
        self.path = folder
        self._form = form

    def num_kept(self) -> int:
        """Count the files; the numbers of frames in their names are in order."""
        return sum(1 for _ in self.path.glob(f"[0-9]*{self._form.suffix}")) if self.path.is_dir() else 0

    def begin(self, num_kept: int) -> None:
        """Make the folder; what is too much is written once more."""
        self.path.mkdir(parents=True, exist_ok=True)

    def add(self, frame: VideoFrame, answer: Result | SapiensError) -> None:
        """Write a file, where there is a result."""
        if not isinstance(answer, SapiensError):
            answer.save(self.path / f"{frame.index:06d}{self._form.suffix}", image_id=frame.index)

    def stop(self) -> None:
        """Do nothing: every file is complete."""

    def finish(self) -> None:
        """Do nothing: every file has its name."""


def sinks(
    folder: Path, video: VideoFile, info: VideoInfo, task: str, formats: Sequence[Format]
) -> list[Sink]:
    """Return what takes the frames of a task, one sink per format.

    Args:
        folder: For results.
        video: What the results are about.
        info: What it says of itself.
        task: Or model, after which files are named.
        formats: What is wanted.
    """
    base = folder / f"{video.name}_{task}"
    made: list[Sink] = []
    for form in formats:
        if form is Format.PICTURE:
            made.append(Movie(base.with_name(f"{base.name}.mp4"), video, info))
        elif form in (Format.JSON, Format.PARQUET):
            suffix = ".jsonl" if form is Format.JSON else ".parquet"
            made.append(Lines(base.with_name(base.name + suffix), video.mark))
        else:
            made.append(Files(base, form))
    return made


def _picture(frame: VideoFrame, answer: Result | SapiensError) -> np.ndarray[Any, np.dtype[np.uint8]]:
    from sapiens_core.pictures import numbers_picture

    if isinstance(answer, SapiensError):
        return frame.image
    picture = np.asarray(answer.plot().convert("RGB"))
    ids = frame.track_ids
    if isinstance(answer, PoseResult | DetectionResult) and ids is not None and len(ids) == len(answer):
        return numbers_picture(picture, answer.bboxes, ids)
    return picture
