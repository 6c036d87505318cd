"""What asking about a video costs beside asking about its frames, and whether anything is lost.

    python bench/video.py [--url HOST:PORT] [--frames 300] [--size 1280x720] [--rounds 3] [--task detect]

Renders a clip in which two figures cross, and asks for a task about it: by `video`, and by `map` with the
frames in memory, turn and turn about. Without --url a stand-in in this process answers, each image in
--latency-s.

    throughput   frames a second by `video` over those by `map`, the best of the rounds of each
    order        frames that are missing, twice there or out of order
    difference   arrays that differ between both
    memory       how much the process grows from a fifth of the clip to its end, in MB
    jitter       of what the One-Euro filter makes of a trembling person over what came in
    switches     of the numbers of two people who cross, with a detector that sees one of them meanwhile

Exit status 1: a figure is missed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
from faults.figures import at_least, at_most, exactly

from sapiens_client import SapiensClient
from sapiens_client.testing import FakeServer
from sapiens_client.video.decoding import Reader
from sapiens_core.motion.one_euro import OneEuro, jitter, smoothed
from sapiens_core.motion.tracks import Persons, TrackRules, Tracks, followed

RATE = 25
MIN_SHARE = 0.95
MAX_GROWTH_MB = 30.0
MAX_JITTER = 0.3


def pictures(number: int, size_wh: tuple[int, int]) -> Iterator[np.ndarray]:
    """Render two figures who walk past each other before a wall."""
    width, height = size_wh
    rows, columns = np.mgrid[:height, :width]
    wall = np.stack([60 + 40 * columns / width, 80 + 30 * rows / height, 0 * rows + 90], 2).astype(np.uint8)
    for index in range(number):
        picture, share = wall.copy(), index / max(1, number - 1)
        for place, color in ((0.1 + 0.8 * share, (190, 120, 90)), (0.9 - 0.8 * share, (60, 140, 200))):
            left = int(place * width - 0.05 * width)
            picture[int(0.3 * height) : int(0.95 * height), max(0, left) : left + int(0.1 * width)] = color
        yield picture


def write_clip(path: Path, number: int, size_wh: tuple[int, int]) -> None:
    """Write the figures as H.264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height = size_wh
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, RATE)
        for index, picture in enumerate(pictures(number, size_wh)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def resident_mb() -> float:
    """Return how much memory this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def by_video(client: SapiensClient, clip: Path, task: str) -> tuple[float, list[int], float]:
    """Return seconds, the numbers of the frames, and the growth in MB."""
    started, numbers, sizes = time.perf_counter(), [], []
    with client.video(clip, tasks=task) as video:
        for frame in video:
            assert frame.results  # noqa: S101
            numbers.append(frame.index)
            sizes.append(resident_mb())
    settled = sizes[len(sizes) // 5 :]
    return time.perf_counter() - started, numbers, settled[-1] - settled[0]


def by_map(client: SapiensClient, frames: Sequence[np.ndarray], task: str) -> float:
    """Return seconds."""
    started = time.perf_counter()
    for item in client.map("analyze", frames, tasks=(task,)):
        assert item.result  # noqa: S101
    return time.perf_counter() - started


def num_different(client: SapiensClient, clip: Path, task: str) -> int:
    """Count the arrays that `video` and `map` do not agree about."""
    with Reader(clip) as reader:
        items = client.map(task, (frame.image for frame in reader.frames()))
        return sum(
            not np.array_equal(array, frame.results[task].arrays()[name])
            for frame, item in zip(client.video(clip, tasks=task), items, strict=True)
            for name, array in item.result.arrays().items()
        )


def jitter_figures() -> tuple[float, float]:
    """Return the jitter of a trembling person of 300 pixels, before and after the filter, in pixels."""
    raw = np.random.default_rng(0).normal(0, 1.5, (300, 17, 2)).astype(np.float32)
    raw[..., 0] += np.linspace(0, 300, 300, dtype=np.float32)[:, None]
    state, steady = None, []
    for index, points in enumerate(raw):
        state = smoothed(state, points, index / RATE, OneEuro(), 300.0)
        steady.append(state.values.astype(np.float32))
    return jitter(raw), jitter(np.stack(steady))


def num_switches(number: int, size_wh: tuple[int, int]) -> int:
    """Count how often the figures change their numbers; the one behind is not found while both overlap."""
    width, height = size_wh
    tracks, first, switches = Tracks.none(), None, 0
    for index in range(number):
        share = index / max(1, number - 1)
        centers = np.float32([0.1 + 0.8 * share, 0.9 - 0.8 * share]) * width
        half = 0.05 * width
        bboxes = np.stack(
            [centers - half, 0 * centers + 0.3 * height, centers + half, 0 * centers + 0.95 * height], 1
        )
        seen = np.arange(1 if abs(centers[0] - centers[1]) < half else 2)
        persons = Persons.in_boxes(bboxes[seen].astype(np.float32), np.full(len(seen), 0.9, np.float32))
        result = followed(tracks, persons, index / RATE, TrackRules())
        tracks, first = result.tracks, result.ids if first is None else first
        switches += int((result.ids != first[seen]).sum())
    return switches


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", default="detect")
    parser.add_argument("--latency-s", type=float, default=0.1)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    with ExitStack() as stack:
        clip = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "clip.mp4"
        write_clip(clip, options.frames, (width, height))
        url = options.url
        if url is None:
            server = stack.enter_context(FakeServer(models=["detect", "depth", "pose"]))
            server.latency_s, url = options.latency_s, server.url
        client = stack.enter_context(SapiensClient(url))
        client.warm_up(options.task)
        with Reader(clip) as reader:
            frames = [frame.image for frame in reader.frames()]
        watched, mapped = [], []
        for _ in range(options.rounds):
            mapped.append(by_map(client, frames, options.task))
            watched.append(by_video(client, clip, options.task))
        different = num_different(client, clip, options.task)
    seconds = min(each[0] for each in watched)
    print(f"video {options.frames / seconds:.1f} frames/s, map {options.frames / min(mapped):.1f} frames/s")
    before, after = jitter_figures()
    print(f"jitter {before:.2f} px before, {after:.2f} px after")
    lost = sum(numbers != list(range(options.frames)) for _, numbers, _ in watched)
    figures = [
        at_least("throughput of video over map", round(min(mapped) / seconds, 3), MIN_SHARE),
        exactly("rounds with frames lost, doubled or out of order", lost, 0),
        exactly("arrays that differ from map's", different, 0),
        at_most("growth of memory", max(each[2] for each in watched), MAX_GROWTH_MB, "MB"),
        at_most("jitter after over before", round(after / before, 3), MAX_JITTER),
        exactly("identity switches", num_switches(options.frames, (width, height)), 0),
    ]
    print(*figures, sep="\n")
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
