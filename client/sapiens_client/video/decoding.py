"""Videos to pixels, by PyAV (FFmpeg): upright frames with their times, one by one.

What is damaged does not end a video: frames that cannot be decoded are left out, and a file that breaks off
ends there; either way `Reader.problem` tells.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sapiens_client.errors import ImageReadError, InvalidInputError
from sapiens_client.video.sources import Opening, VideoSource, opening

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOGGER = logging.getLogger("sapiens_client")
_MICROSECONDS = 1_000_000
_USUAL_RATE = Fraction(25)
# Of what a file says it has; containers differ by some frames and by the length of the sound.
_MISSING_S, _MISSING_SHARE = 0.5, 0.02


@dataclass(frozen=True)
class VideoInfo:
    """What a video says of itself.

    Attributes:
        name: Its path or address.
        width: Of the upright frames, pixels.
        height: Likewise.
        rate: Frames a second, their mean where the rate varies.
        num_frames: How many there should be; None: only reading tells, as of streams and cameras.
        duration_s: How long it should be; None: likewise. [s]
        is_live: Whether it comes as it happens.
    """

    name: str
    width: int
    height: int
    rate: float
    num_frames: int | None
    duration_s: float | None
    is_live: bool


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video.

    Attributes:
        index: Its place among all frames of the video, from 0.
        time_s: When it is shown, seconds from the beginning of the video.
        duration_s: For how long. [s]
        image: (H, W, 3) uint8, RGB, upright, read-only.
    """

    index: int
    time_s: float
    duration_s: float
    image: NDArray[np.uint8]


class Reader:
    """A video that is open for reading.

    Args:
        source: See `VideoSource`.

    Raises:
        ImageNotFoundError: There is no such file.
        ImageReadError: It cannot be read, or is no video; the address or camera does not answer.
        InvalidInputError: It is no source, PyAV is not installed, or does not have its protocol.
    """

    def __init__(self, source: VideoSource) -> None:
        self._how = opening(source)
        self._lock = threading.Lock()  # of FFmpeg's structures, which must not go while a thread decodes
        self._is_closed = False
        self._container = _opened(self._how)
        self.problem: str | None = None
        self.num_decoded = 0
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise ImageReadError(f"video must have pictures, got only sound in {self._how.name!r}")
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        self._colours = _Colours()
        self._clock = _Clock((self._container.start_time or 0) / _MICROSECONDS)
        self.info = self._described()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def is_remote(self) -> bool:
        """Whether it comes from elsewhere, which may let whoever reads wait."""
        return self._how.timeout_s is not None

    def close(self) -> None:
        """Close the file, or leave the stream, at once or after the frame that another thread waits for."""
        self._is_closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._container.close()
            finally:
                self._lock.release()

    def frames(self, *, start: int = 0, every: int = 1) -> Iterator[Frame]:
        """Decode the video, once.

        Args:
            start: Index of the first frame wanted.
            every: Take every n-th frame from there; the others are decoded and let go.
        """
        while (decoded := self._next()) is not None:
            index = self.num_decoded
            self.num_decoded += 1
            duration_s = self._duration_s(decoded)
            time_s = self._clock.time_s(decoded, duration_s)
            if index >= start and (index - start) % every == 0:
                yield Frame(index, time_s, duration_s, self._colours.upright(decoded))
        if not self._is_closed:
            self._tell_missing()

    def _described(self) -> VideoInfo:
        """Read the first frame: whether it lies on its side stands in it."""
        ahead = self._read()
        first = next(ahead, None)
        if first is None:
            self._container.close()
            raise ImageReadError(
                f"video must have frames, got none from {self._how.name!r}: {self.problem or 'it is empty'}"
            )
        self._decoded = chain([first], ahead)
        height, width = _oriented(np.empty((first.height, first.width, 0), np.uint8), first).shape[:2]
        stream, container = self._stream, self._container
        duration_s = None
        if stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        elif container.duration is not None and not container.streams.audio:
            duration_s = container.duration / _MICROSECONDS
        rate = float(self._rate)
        num_frames = stream.frames or (round(duration_s * rate) if duration_s else None)
        if self._how.is_live:
            num_frames = duration_s = None
        return VideoInfo(self._how.name, width, height, rate, num_frames, duration_s, self._how.is_live)

    @property
    def _rate(self) -> Fraction:
        return self._stream.average_rate or self._stream.guessed_rate or _USUAL_RATE

    def _duration_s(self, decoded: Any) -> float:
        if decoded.duration and decoded.time_base:
            return float(decoded.duration * decoded.time_base)
        return float(1 / self._rate)

    def _next(self) -> Any | None:
        with self._lock:
            decoded = None if self._is_closed else next(self._decoded, None)
        if self._is_closed:
            self.close()  # who closed it meanwhile did not wait
        return decoded

    def _read(self) -> Iterator[Any]:
        import av

        num_damaged = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    yield from packet.decode()
                except av.error.InvalidDataError:
                    num_damaged += 1
        except (av.error.FFmpegError, OSError) as error:
            self._report(f"it breaks off: {_why(error, self._how)}")
        if num_damaged:
            self._report(f"{num_damaged} of its packets are damaged, their frames are left out")

    def _tell_missing(self) -> None:
        expected_s, end_s = self.info.duration_s or 0.0, self._clock.end_s
        if self.info.is_live and self.problem is None:
            self._report(f"it ended after {end_s:.2f} s")
        elif expected_s - end_s > max(_MISSING_S, _MISSING_SHARE * expected_s):
            self._report(f"it ends after {end_s:.2f} s of {expected_s:.2f} s")

    def _report(self, words: str) -> None:
        self.problem = words if self.problem is None else f"{self.problem}; {words}"
        _LOGGER.warning("%s: %s", self._how.name, words)


def _opened(how: Opening) -> Any:
    try:
        import av
    except ImportError as error:
        raise InvalidInputError(
            "video needs PyAV, which is not installed; pip install 'sapiens-triton[video]'"
        ) from error
    try:
        return av.open(how.file, format=how.format, options=how.options, timeout=how.timeout_s)
    except av.error.ProtocolNotFoundError as error:
        raise InvalidInputError(
            f"video must be at an address that PyAV {av.__version__} can read, got {how.name!r}, whose "
            "protocol its FFmpeg lacks; send it by rtsp://, rtmp://, udp:// or http://, or build PyAV with it"
        ) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ImageReadError(f"video must be readable, got {how.name!r}: {_why(error, how)}") from error


def _why(error: BaseException, how: Opening) -> str:
    """Return what went wrong; where nothing came for too long, FFmpeg says that it was told to exit."""
    import av

    if isinstance(error, av.error.ExitError):
        return f"nothing came for {how.timeout_s:g} s"
    return getattr(error, "strerror", None) or str(error)


class _Clock:
    """When frames are shown: those without a time after those before them, as the first ones of RTSP.

    Attributes:
        end_s: Until when the last one is shown, seconds from the beginning of the video.
    """

    def __init__(self, origin_s: float) -> None:
        self.end_s = 0.0
        self._origin_s = origin_s
        self._is_running = False

    def time_s(self, decoded: Any, duration_s: float) -> float:
        """Return when the next frame is shown, seconds from the beginning of the video."""
        time_s = self.end_s
        if decoded.pts is not None:
            shown_s = float(decoded.pts * decoded.time_base)
            if time_s and not self._is_running:
                self._origin_s = shown_s - time_s
            self._is_running = True
            time_s = shown_s - self._origin_s
        self.end_s = time_s + duration_s
        return time_s


class _Colours:
    """Makes RGB of decoded frames by one converter: one for each frame begins with tables and threads."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._converter = VideoReformatter()

    def upright(self, decoded: Any) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8, RGB, read-only; frames of one video may differ in size and format."""
        # One thread: frames are decoded on several, and handing a frame of HD out to others takes longer.
        rgb = self._converter.reformat(decoded, format="rgb24", threads=1)
        lying = rgb.to_ndarray().astype(np.uint8, copy=False)
        pixels: NDArray[np.uint8] = np.ascontiguousarray(_oriented(lying, decoded))
        pixels.flags.writeable = False
        return pixels


def _oriented(pixels: NDArray[np.uint8], decoded: Any) -> NDArray[np.uint8]:
    """Turn and mirror (H, W, C) as the frame's display matrix says, if it has one of right angles.

    The matrix takes x, y to (a x + c y, b x + d y).
    """
    matrix = next((each for each in decoded.side_data if each.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return pixels
    (a, b, _), (c, d, _), _ = np.frombuffer(matrix, np.int32)[:9].reshape(3, 3).tolist()
    is_swapped = abs(a) < abs(b)
    turned = pixels.swapaxes(0, 1) if is_swapped else pixels
    flip_x, flip_y = (c < 0, b < 0) if is_swapped else (a < 0, d < 0)
    return turned[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
