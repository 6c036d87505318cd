"""What asking about a video costs beside asking about its frames, and whether anything is lost.

    python bench/video.py [--url HOST:PORT] [--frames 300] [--size 1280x720] [--rounds 7] [--task depth]

Renders a clip in which two figures cross, and asks for a task about it. Without --url, `sapiens serve` in
processes of its own answers, by a network of a single block that takes 32 x 32 pixels and hides next to
nothing; it shares the cores with the client, so that whatever that does shows. Contenders take turns, in one
order and then the other:

    map, frames in memory    what was decoded before the clock started
    map, frames decoded      `map` over `Reader.frames()`: everything that `video` has to do
    video                    `client.video`
    decoding alone           `Reader.frames()`, and nobody asks

Throughput is judged by each contender's fastest round: a busy machine scatters the ratios of single rounds,
and the last calls of some wait half a second in a queue of Triton 24.10. Client CPU, page faults and the
server's CPU are medians of the kernel's counters. "By CPU" is the ratio of throughput where nothing but the
cores is short: that of CPU, the client's and the median of the server's for all contenders.

    order        frames that are missing, twice there or out of order
    difference   frames whose results `video` and `map` differ about, asked about one by one
    memory       of this process, most in the last third of the clip beyond the most in the middle one
    jitter       of what the One-Euro filter makes of a trembling person over what came in
    switches     of the numbers of two people who cross, with a detector that sees one of them meanwhile

Exit status 1: a figure is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from faults.figures import Figure, at_least, at_most, exactly, told
from measure import process_tree, usage
from transport import NETWORK

from sapiens_client import Result, SapiensClient
from sapiens_client.video.decoding import Reader
from sapiens_core.motion.one_euro import OneEuro, jitter, smoothed
from sapiens_core.motion.tracks import Persons, TrackRules, Tracks, followed
from sapiens_export.exporter import export_engine
from sapiens_export.weights.sources import source_from_seed
from sapiens_server import serve

RATE = 25
IN_MEMORY, DECODED, VIDEO, ALONE = "map, frames in memory", "map, frames decoded", "video", "decoding alone"
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


@dataclass(frozen=True)
class Round:
    """One contender's turn.

    Attributes:
        per_second: Frames.
        client_ms: CPU time of this process per frame.
        server_ms: That of the server and its processes; 0: it is elsewhere.
        page_faults: Minor ones of this process per frame.
    """

    per_second: float
    client_ms: float
    server_ms: float
    page_faults: float


def contenders(
    client: SapiensClient, clip: Path, frames: Sequence[np.ndarray], task: str
) -> dict[str, Callable[[], None]]:
    """Return what takes turns."""

    def by_map(images: Iterable[np.ndarray]) -> None:
        for item in client.map("analyze", images, tasks=(task,)):
            assert item.result  # noqa: S101

    def by_map_decoded() -> None:
        with Reader(clip) as reader:
            by_map(frame.image for frame in reader.frames())

    def by_video() -> None:
        with client.video(clip, tasks=task) as video:
            for frame in video:
                assert frame.results  # noqa: S101

    def alone() -> None:
        with Reader(clip) as reader:
            for _ in reader.frames():
                pass

    return {IN_MEMORY: partial(by_map, frames), DECODED: by_map_decoded, VIDEO: by_video, ALONE: alone}


def measured(turn: Callable[[], None], num_frames: int, server_pids: Sequence[int]) -> Round:
    """Let a contender have its turn."""
    mine, theirs, started = usage([os.getpid()]), usage(server_pids), time.perf_counter()
    turn()
    seconds = time.perf_counter() - started
    mine, theirs = usage([os.getpid()]) - mine, usage(server_pids) - theirs
    per_frame_ms = 1e3 / num_frames
    return Round(
        num_frames / seconds,
        mine.cpu_s * per_frame_ms,
        theirs.cpu_s * per_frame_ms,
        mine.page_faults / num_frames,
    )


def quartiles(rounds: Mapping[str, Sequence[Round]], over: str) -> list[float]:
    """Return the quartiles of the ratios of throughput of `video`, one ratio a round."""
    pairs = zip(rounds[VIDEO], rounds[over], strict=True)
    ratios = [one.per_second / other.per_second for one, other in pairs]
    return np.quantile(ratios, (0.25, 0.5, 0.75)).round(3).tolist()


def share_of_fastest(rounds: Mapping[str, Sequence[Round]], over: str) -> float:
    """Return the ratio of throughput of the fastest rounds of `video` and another contender."""
    video, other = (max(each.per_second for each in rounds[name]) for name in (VIDEO, over))
    return round(video / other, 3)


def show(rounds: Mapping[str, Sequence[Round]]) -> None:
    """Print a table, and how `video` compares."""
    print("| | frames/s, median | client CPU ms/frame | server CPU ms/frame | page faults/frame |")
    print("|---|---|---|---|---|")
    for name, some in rounds.items():
        values = np.array(
            [[each.per_second, each.client_ms, each.server_ms, each.page_faults] for each in some]
        )
        rate, client_ms, server_ms, faults = np.median(values, axis=0)
        print(f"| {name} | {rate:.1f} | {client_ms:.2f} | {server_ms:.2f} | {faults:.0f} |")
    server_ms = np.median([each.server_ms for name in (IN_MEMORY, DECODED, VIDEO) for each in rounds[name]])
    cpu_ms = {name: server_ms + np.median([each.client_ms for each in some]) for name, some in rounds.items()}
    for over in (IN_MEMORY, DECODED):
        low, ratio, high = quartiles(rounds, over)
        by_cpu = cpu_ms[over] / cpu_ms[VIDEO]
        print(f"video over {over}: x{ratio}, quartiles x{low} and x{high}; by CPU x{by_cpu:.3f}")


def watched(client: SapiensClient, clip: Path, task: str, num_frames: int) -> list[Figure]:
    """Ask about the clip, first of all; say what became of its frames and of memory."""
    numbers, sizes, before = [], [], resident_mb()
    with client.video(clip, tasks=task) as video:
        for frame in video:
            numbers.append(frame.index)
            sizes.append(resident_mb())
    third = len(sizes) // 3
    return [
        exactly("frames in their order, each once", numbers == list(range(num_frames)), wanted=True),
        told("memory that a clip takes", max(sizes) - before, "MB"),
        at_most("growth of memory", max(sizes[-third:]) - max(sizes[third:-third]), MAX_GROWTH_MB, "MB"),
    ]


def num_different(client: SapiensClient, clip: Path, task: str) -> int:
    """Count the frames whose results are not those of `map`, bit by bit.

    Frames are asked about one by one: in batches, whose size is chance, networks round otherwise.
    """
    with Reader(clip) as reader:
        items = client.map(task, (frame.image for frame in reader.frames()), concurrency=1)
        expected = [fingerprint(item.result) for item in items]
    frames = client.video(clip, tasks=task, concurrency=1)
    found = [fingerprint(frame.results[task]) for frame in frames]
    return sum(one != other for one, other in zip(found, expected, strict=True))


def fingerprint(result: Result) -> str:
    """Return what is different for different arrays."""
    digest = hashlib.sha256()
    for name, array in result.arrays().items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


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
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--task", default="depth")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_clip(clip := folder / "clip.mp4", options.frames, (width, height))
        url, server_pids = options.url, []
        if url is None:
            export_engine(source_from_seed(NETWORK, 0), folder / "models")
            server = stack.enter_context(serve(folder / "models", grpc_port=0))
            url, server_pids = server.grpc_url, process_tree(server.pid)
        client = stack.enter_context(SapiensClient(url))
        client.warm_up(options.task)
        figures = watched(client, clip, options.task, options.frames)
        with Reader(clip) as reader:
            frames = [frame.image for frame in reader.frames()]
        turns = contenders(client, clip, frames, options.task)
        rounds: dict[str, list[Round]] = {name: [] for name in turns}
        for number in range(options.rounds):
            for name in sorted(turns, reverse=bool(number % 2)):
                rounds[name].append(measured(turns[name], len(frames), server_pids))
        show(rounds)
        different = num_different(client, clip, options.task)
    before, after = jitter_figures()
    print(f"jitter {before:.2f} px before, {after:.2f} px after")
    decoded, in_memory = (share_of_fastest(rounds, over) for over in (DECODED, IN_MEMORY))
    figures += [
        at_least("throughput of video over map, frames decoded", decoded, MIN_SHARE),
        told("throughput of video over map, frames in memory", in_memory),
        exactly("frames with other results than map's", different, 0),
        at_most("jitter after over before", round(after / before, 3), MAX_JITTER),
        exactly("identity switches", num_switches(options.frames, (width, height)), 0),
    ]
    print(*figures, sep="\n")
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
