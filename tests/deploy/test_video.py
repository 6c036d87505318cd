"""A clip of 300 frames at 720p, on a real server: none is lost, doubled or kept, also over Ctrl-C."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from real_servers import running
from terminal import CTRL_C, sapiens_on_a_terminal

from sapiens_client import SapiensClient
from sapiens_client.bulk.items import DEFAULT_CONCURRENCY
from sapiens_client.video.decoding import Reader
from sapiens_export.exporter import export_engine
from sapiens_export.repository.serving import Serving
from sapiens_export.weights.sources import built_in_detector, source_from_seed

NUM_FRAMES, NUM_BITS = 300, 9
HEIGHT, WIDTH = 720, 1280


def picture(number: int) -> np.ndarray:
    """Stripes that are the bits of a number."""
    bits = [number >> bit & 1 for bit in range(NUM_BITS)]
    stripes = np.repeat(np.uint8(bits) * 160 + 40, WIDTH // NUM_BITS + 1)[:WIDTH]
    return np.broadcast_to(stripes[None, :, None], (HEIGHT, WIDTH, 3)).copy()


def number_in(image: np.ndarray) -> int:
    width = WIDTH // NUM_BITS + 1
    middles = [image[HEIGHT // 2 - 20 :, width * bit + 30 : width * bit + 90] for bit in range(NUM_BITS)]
    return sum((middle.mean() > 120) << bit for bit, middle in enumerate(middles))


def numbers_in(path: Path) -> list[int]:
    with Reader(path) as reader:
        return [number_in(frame.image) for frame in reader.frames()]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_clip(path, [picture(number) for number in range(NUM_FRAMES)])


@pytest.fixture(scope="module")
def url(golden_networks, tmp_path_factory) -> Iterator[str]:
    """Of a server whose networks take single images: in batches, which are chance, they round otherwise."""
    repository = tmp_path_factory.mktemp("video") / "models"
    single = Serving(max_batch_size=1)
    export_engine(source_from_seed(golden_networks["depth"], 0), repository, serving=single)
    export_engine(built_in_detector(), repository, serving=single)
    with running(repository, grpc_port=0) as server:
        yield server.grpc_url


def test_results_are_those_of_map_in_order_and_frames_are_let_go(url, clip):
    pixels, num_different = [], 0
    with SapiensClient(url) as client, Reader(clip) as reader:
        items = client.map("depth", (frame.image for frame in reader.frames()))
        with client.video(clip, tasks="depth") as video:
            for frame, item in zip(video, items, strict=True):
                assert (frame.index, number_in(frame.image)) == (len(pixels), len(pixels))
                assert frame.time_s == pytest.approx(len(pixels) / 25)
                num_different += not np.array_equal(frame.results.depth.depth, item.result.depth)
                assert [index for index, each in enumerate(pixels) if each() is not None] == []
                pixels.append(weakref.ref(frame.image))
                assert video._reader.num_decoded - len(pixels) <= 2 * DEFAULT_CONCURRENCY
                del frame
    assert (len(pixels), num_different) == (NUM_FRAMES, 0)


def test_ctrl_c_leaves_what_plays_and_the_rest_follows(url, clip, tmp_path):
    command = ("detect", clip, "--format", "picture", "--format", "json", "--resume")
    movie = tmp_path / "out" / "clip.mp4_detect.mp4"
    kept = 0
    for _ in range(2):
        with sapiens_on_a_terminal(command, tmp_path, {"SAPIENS_URL": url}) as terminal:
            terminal.until(r"\d/300 [\d.]+ frames/s \d:\d\d:\d\d")
            terminal.press(CTRL_C)
            assert terminal.exit_status() == 130, terminal.text
            kept, before = int(terminal.until(r"interrupted after (\d+) frames")[1]), kept
        assert before < kept < NUM_FRAMES
        assert not movie.exists()
    pieces = sorted((tmp_path / "out").glob("*.part*.mp4"), key=lambda path: (len(path.name), path.name))
    assert [number for piece in pieces for number in numbers_in(piece)] == list(range(kept))
    with sapiens_on_a_terminal(command, tmp_path, {"SAPIENS_URL": url}) as terminal:
        assert terminal.exit_status() == 0, terminal.text
    assert numbers_in(movie) == list(range(NUM_FRAMES))
    assert len(movie.with_suffix(".jsonl").read_bytes().splitlines()) == NUM_FRAMES
