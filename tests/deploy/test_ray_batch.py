"""The example for Ray: 200 images, a server that is killed, a job that is killed, each image in one row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from real_servers import becomes_true, running

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "bench" / "faults" / "stand_in"
NUM_IMAGES, NUM_BAD, WAIT_MS, PIECE = 200, 2, 200, 8
PATIENCE_S = 600.0


def image(number: int) -> bytes:
    """What the stand-in takes: how long to wait, its number, height and width of the answer."""
    height = 0 if number < NUM_BAD else 1
    return np.array([WAIT_MS, number, height, 3], np.uint32).tobytes()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    for number in range(NUM_IMAGES):
        (folder / ("more" if number % 2 else ".") / f"{number}.jpg").write_bytes(image(number))
    (folder / "notes.txt").write_text("no image")
    return folder


@contextmanager
def job(images: Path, output: Path, urls: list[str]) -> Iterator[subprocess.Popen[str]]:
    servers = [word for url in urls for word in ("--server", url)]
    command = [
        sys.executable,
        ROOT / "examples" / "ray_batch.py",
        images,
        output,
        *servers,
        "--piece",
        str(PIECE),
    ]
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:  # a short path
        environment = {**os.environ, "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def rows_in(paths: Iterable[Path]) -> list[dict]:
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def test_each_image_is_in_one_row_whatever_dies(images, tmp_path):
    def is_written(count: int):
        return lambda: len(list(tmp_path.glob("*.parquet"))) >= count

    with running(STAND_IN, grpc_port=0) as one, running(STAND_IN, grpc_port=0) as other:
        urls = [one.grpc_url, other.grpc_url]
        with job(images, tmp_path, urls) as first:
            assert becomes_true(is_written(2), PATIENCE_S), first.communicate()[0]
            os.kill(other.pid, signal.SIGKILL)
            assert becomes_true(is_written(6), PATIENCE_S)
            first.send_signal(signal.SIGTERM)
            first.communicate(timeout=PATIENCE_S)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
        assert 6 <= len(before) < NUM_IMAGES / PIECE
        with job(images, tmp_path, urls) as second:
            said = second.communicate(timeout=PATIENCE_S)[0]
            assert second.returncode == 0, said
    assert f"{len(rows_in(before))} images are done" in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    check(rows_in(tmp_path.glob("*.parquet")))


def check(found: list[dict]) -> None:
    """Every image once, with the answer to itself; what is no image with the server's sentence."""
    numbers = {int(Path(row["key"]).stem): row for row in found}
    assert len(found) == len(numbers) == NUM_IMAGES
    for number, row in numbers.items():
        assert row["key"] == f"more/{number}.jpg" if number % 2 else f"{number}.jpg"
        if number < NUM_BAD:
            assert "image must ask for some pixels" in row["error"]
            assert row["data"] is None
            continue
        depth = np.frombuffer(row["data"], row["dtype"]).reshape(row["shape"])
        assert (depth.shape, row["error"]) == ((1, 3), "")
        assert depth[0, 1] == number
