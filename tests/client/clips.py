"""Small videos, made by PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TIME_BASE = Fraction(1, 1000)
STEP = 9  # levels between one frame and the next, see `numbered`


def numbered(number: int, size: tuple[int, int] = (64, 96)) -> list[np.ndarray]:
    """Grey pictures that tell which they are, with a bright corner at the top left."""
    pictures = [np.full((*size, 3), 20 + STEP * index, np.uint8) for index in range(number)]
    for picture in pictures:
        picture[:16, :16] = 255
    return pictures


def number_of(image: np.ndarray) -> int:
    """Which of `numbered` it is."""
    middle = image[image.shape[0] // 2, image.shape[1] // 2].astype(float).mean()
    return round((middle - 20) / STEP)


def write_clip(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    times_ms: Sequence[int] | None = None,
    rotation: float | None = None,
    has_sound: bool = False,
    **options: str,
) -> Path:
    """Write pictures as H.264, 25 a second or at the times given."""
    times_ms = times_ms or [40 * index for index in range(len(pictures))]
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"crf": "10", "preset": "ultrafast", "g": "5"}
        )
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", TIME_BASE
        if rotation is not None:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=16000, layout="mono") if has_sound else None
        for picture, time_ms in zip(pictures, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time_ms, TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _write_sound(container, sound, times_ms[-1] + 40)
    return path


def sound_of(path: Path | str) -> tuple[list[bytes], list[float]]:
    """Return the packets of a clip's sound, and their times in seconds."""
    with av.open(str(path)) as container:
        packets = [each for each in container.demux(audio=0) if each.pts is not None]
        return [bytes(each) for each in packets], [float(each.pts * each.time_base) for each in packets]


def _write_sound(container: av.container.OutputContainer, sound: av.AudioStream, length_ms: int) -> None:
    """Write a tone."""
    wave = np.sin(np.arange(16 * length_ms) * 440 * 2 * np.pi / 16000).astype(np.float32)
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        container.mux(sound.encode(frame))
    container.mux(sound.encode())
