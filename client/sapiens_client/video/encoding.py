"""Pictures to MP4, in pieces that play at any time, and pieces to one file with the sound of the source.

A piece is a fragmented MP4: what was written before a power cut still plays. Its frames refer to earlier ones
only, so that pieces can be cut anywhere and put one after another without encoding again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sapiens_client.errors import ImageReadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TIME_BASE = Fraction(1, 90_000)
_CODEC_OPTIONS = {"crf": "20", "preset": "veryfast", "bf": "0"}
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
# Such files begin at 0; when that is in the video stands among their metadata. [s]
_BEGINS = "comment"
_KEY_FRAME_EVERY = 50
_COPIED = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")  # sounds that MP4 holds
_MICROSECONDS = 1_000_000


class Piece:
    """An MP4 file without sound that grows, at a varying rate; complete after `close`.

    Args:
        path: Ends in .mp4.
        rate: Frames a second, about; times are those given with the pictures.
    """

    def __init__(self, path: Path, rate: float) -> None:
        import av

        self._container: Any = av.open(_url(path), "w", options=_FRAGMENTED)
        self._rate = Fraction(rate).limit_denominator(1001)
        self._stream: Any = None
        self._first_s, self._last_pts = 0.0, -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def add(self, picture: NDArray[np.uint8], time_s: float) -> None:
        """Append a picture, (H, W, 3) uint8 RGB, of the size of those before and shown after them."""
        import av

        picture = _even(picture)
        if self._stream is None:
            self._first_s = time_s
            self._container.metadata[_BEGINS] = repr(time_s)
            self._stream = self._started(picture)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.time_base = _TIME_BASE
        frame.pts = self._last_pts = max(round((time_s - self._first_s) / _TIME_BASE), self._last_pts + 1)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
            self._stream = None
        self._container.close()

    def _started(self, picture: NDArray[np.uint8]) -> Any:
        stream = self._container.add_stream("libx264", rate=self._rate, options=_CODEC_OPTIONS)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", _TIME_BASE
        stream.codec_context.gop_size = _KEY_FRAME_EVERY
        return stream


def frame_times(path: Path) -> list[float]:
    """Return when the frames of a piece are shown, in seconds; as far as it is whole."""
    import av

    times: list[float] = []
    try:
        with av.open(_url(path)) as container:
            begins_s = _begins_s(container)
            for packet in container.demux(video=0):
                times += _shown_s(packet, begins_s)
    except (av.error.FFmpegError, OSError, IndexError):
        return times
    return times


def _shown_s(packet: Any, begins_s: float) -> list[float]:
    """Return when a packet's frame is shown, in seconds; nothing of a packet that only ends a stream."""
    return [] if packet.pts is None else [begins_s + float(packet.pts * packet.time_base)]


def ends(starts_s: Sequence[float]) -> list[float]:
    """Return when each piece ends at the latest: where the first of those after it begins, in seconds."""
    after = [*starts_s[1:], float("inf")]
    return [min(after[row:]) for row in range(len(starts_s))]


def joined(pieces: Sequence[Path], starts_s: Sequence[float], path: Path, sound_of: str | None) -> None:
    """Write pieces one after another into one MP4, with the sound of a file.

    Args:
        pieces: In their order.
        starts_s: When each begins; frames of earlier pieces from then on are left out. [s]
        path: Ends in .mp4.
        sound_of: A video file; None: there is no sound.

    Raises:
        ImageReadError: A piece cannot be read.
    """
    import av

    try:
        with ExitStack() as files:
            videos = [files.enter_context(av.open(_url(piece))) for piece in pieces]
            written = files.enter_context(av.open(_url(path), "w", options={"movflags": "+faststart"}))
            stream: Any = written.add_stream_from_template(videos[0].streams.video[0])
            pictures = _pictures(videos, ends(starts_s), stream)
            sound = None
            if sound_of is not None:
                source = files.enter_context(av.open(_url(Path(sound_of))))
                sound = _Sound.of(source, written)
            streams = [pictures] if sound is None else [pictures, sound.packets()]
            for each in heapq.merge(*streams, key=lambda timed: timed.time_s):
                written.mux(each.packet)
    except (av.error.FFmpegError, OSError) as error:
        raise ImageReadError(f"pieces of {path.name!r} must be readable to be joined: {error}") from error


@dataclass(frozen=True)
class _Timed:
    time_s: float
    packet: Any


def _begins_s(container: Any) -> float:
    """Return when a piece begins, in seconds of the video."""
    try:
        return float(container.metadata.get(_BEGINS, 0))
    except ValueError:
        return 0.0


def _pictures(videos: Sequence[Any], ends_s: Sequence[float], stream: Any) -> Iterator[_Timed]:
    for video, end_s in zip(videos, ends_s, strict=True):
        begins_s = _begins_s(video)
        for packet in video.demux(video=0):
            if packet.pts is None:
                continue
            time_s = begins_s + float(packet.pts * packet.time_base)
            if time_s >= end_s - 1e-6:
                break
            shift = round(begins_s / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = stream
            yield _Timed(time_s, packet)


class _Sound:
    """The first sound of a file, copied where MP4 holds its kind, else encoded as AAC."""

    def __init__(self, source: Any, read: Any, stream: Any, *, is_copied: bool) -> None:
        self._source, self._read, self._stream, self._is_copied = source, read, stream, is_copied
        self._origin_s = (source.start_time or 0) / _MICROSECONDS

    @classmethod
    def of(cls, source: Any, written: Any) -> _Sound | None:
        if not source.streams.audio:
            return None
        read = source.streams.audio[0]
        is_copied = read.codec_context.name in _COPIED
        if is_copied:
            return cls(source, read, written.add_stream_from_template(read), is_copied=True)
        stream = written.add_stream("aac", rate=read.codec_context.sample_rate)
        return cls(source, read, stream, is_copied=False)

    def packets(self) -> Iterator[_Timed]:
        import av

        last_s = 0.0
        try:
            for packet in self._copied() if self._is_copied else self._encoded():
                if packet.pts is None:
                    continue
                last_s = max(last_s, float(packet.pts * packet.time_base))
                yield _Timed(last_s, packet)
        except av.error.FFmpegError:
            return  # a broken tail: its pictures ended as well

    def _copied(self) -> Iterator[Any]:
        for packet in self._source.demux(self._read):
            if packet.pts is not None and packet.dts is not None:
                shift = round(self._origin_s / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self._stream
                yield packet

    def _encoded(self) -> Iterator[Any]:
        for frame in self._source.decode(self._read):
            if frame.pts is not None and frame.time_base is not None:
                frame.pts -= round(self._origin_s / frame.time_base)
            yield from self._stream.encode(frame)
        yield from self._stream.encode(None)


def _url(path: Path) -> str:
    """Return what FFmpeg takes for a file, whatever its name."""
    return f"file:{path}"


def _even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row or column where their number is odd: colours are stored for two by two pixels."""
    height, width = picture.shape[:2]
    if not (height % 2 or width % 2):
        return np.ascontiguousarray(picture)
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
