from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SAPIENS = [sys.executable, "-c", "from sapiens_client.cli.main import main; main()", "depth", "photos"]
FORMATS = ["--format", "npy", "--format", "png16"]
SUFFIXES = ("_depth.npy", "_depth.16.png", "_depth.16.json")
FAST = [f"{number}.png" for number in range(6)]


@pytest.fixture
def start(url, tmp_path) -> Callable[..., subprocess.Popen[str]]:
    def started(*options: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [*SAPIENS, *FORMATS, "--url", url, *options]
        return subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)

    return started


@pytest.fixture
def photos(tmp_path, photo, slow_image) -> Path:
    """Fast images around a slow one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in FAST:
        Image.fromarray(photo).save(folder / name)
    Image.fromarray(slow_image).save(folder / "2_slow.png")
    return folder


def results(folder: Path) -> dict[str, int]:
    """Names of complete files, each with the time when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix != ".part"}


def expected(*names: str) -> set[str]:
    return {name + suffix for name in names for suffix in SUFFIXES}


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    out, words = process.communicate(timeout=300)
    return process.returncode, out.split(), words.splitlines()[-1]


@pytest.mark.parametrize(("kill", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
@pytest.mark.parametrize("concurrency", ["1", "3"])
def test_a_killed_run_is_completed_and_nothing_is_done_twice(
    start, photos, tmp_path, kill, status, concurrency
):
    slow = ["2_slow.png", *(f"2_slow{number}.png" for number in range(3))]
    for name in slow[1:]:
        (photos / name).write_bytes((photos / slow[0]).read_bytes())
    with start("--concurrency", concurrency) as process:
        for _ in range(3 * len(SUFFIXES)):  # 0, 1 and 2; slow ones are next
            process.stdout.readline()
        process.send_signal(kill)
        finish(process)
    assert process.returncode == status
    before = results(tmp_path / "out")
    assert {*before} >= expected("0.png", "1.png", "2.png")
    _check_arrays(tmp_path / "out", before)
    num_done = sum(before.keys() >= expected(name) for name in (*FAST, *slow))

    status, printed, summary = finish(start("--concurrency", concurrency, "--resume"))
    after = results(tmp_path / "out")
    assert (status, summary) == (0, f"{len(FAST) + len(slow) - num_done} done, {num_done} skipped, 0 failed")
    assert {*after} == expected(*FAST, *slow)
    is_done = {
        name for name in before if any(name in expected(each) <= before.keys() for each in FAST + slow)
    }
    assert {name: after[name] for name in is_done} == {name: before[name] for name in is_done}
    assert {Path(path).name for path in printed} == {*after} - is_done
    assert len(printed) == len({*printed})


def _check_arrays(folder: Path, names: dict[str, int]) -> None:
    for name in names:
        if name.endswith(".npy"):
            assert np.load(folder / name).shape == ((1, 2) if "slow" in name else (120, 90))


def test_a_complete_run_asks_nothing(start, photos, tmp_path):
    (photos / "2_slow.png").unlink()
    assert finish(start())[0] == 0
    before = results(tmp_path / "out")
    assert finish(start("--resume")) == (0, [], "0 done, 6 skipped, 0 failed")
    assert results(tmp_path / "out") == before


def test_a_file_that_is_missing_and_a_new_image_are_done(start, photos, tmp_path):
    (photos / "2_slow.png").unlink()
    finish(start())
    (tmp_path / "out" / "3.png_depth.16.json").unlink()
    (photos / "5.png").rename(photos / "0.bmp")
    status, printed, summary = finish(start("--resume"))
    assert (status, summary) == (0, "2 done, 4 skipped, 0 failed")
    assert {Path(path).name for path in printed} == expected("0.bmp", "3.png")


def test_what_failed_is_tried_again(start, photos):
    (photos / "2_slow.png").write_bytes(b"no image")
    status, _, summary = finish(start())
    assert (status, summary) == (1, "6 done, 0 skipped, 1 failed")
    status, printed, summary = finish(start("--resume"))
    assert (status, printed, summary) == (1, [], "0 done, 6 skipped, 1 failed")


def test_without_resume_everything_is_done_again(start, photos, tmp_path):
    (photos / "2_slow.png").unlink()
    finish(start())
    before = results(tmp_path / "out")
    assert finish(start())[2] == "6 done, 0 skipped, 0 failed"
    after = results(tmp_path / "out")
    assert all(after[name] > before[name] for name in before)
