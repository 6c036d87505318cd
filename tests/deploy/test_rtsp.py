"""Cameras by address: a real RTSP server plays a clip, breaks off, or falls silent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clips import number_of, numbered, write_clip
from terminal import CTRL_C, sapiens_on_a_terminal

from sapiens_client.video.decoding import Reader

DEBIANS_PYTHON = "/usr/bin/python3"
NUM_FRAMES = 200  # eight seconds: cameras take their time, and a test ends most of them before


@pytest.fixture
def camera(tmp_path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process of one, and its address."""
    clip = write_clip(tmp_path / "clip.mp4", numbered(20) * (NUM_FRAMES // 20))
    command = [DEBIANS_PYTHON, Path(__file__).with_name("camera.py"), clip]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def seen(address: str, after: int, then: Callable[[], None]) -> tuple[list[int], str | None]:
    """Read a stream, do something after so many frames; return the numbers of all and what was wrong."""
    with Reader(address) as reader:
        assert (reader.info.is_live, reader.info.num_frames) == (True, None)
        frames = []
        for frame in reader.frames():
            frames.append(frame)
            if len(frames) == after:
                then()
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(len(frames))])
    return [number_of(frame.image) for frame in frames], reader.problem


def test_frames_come_in_order_with_their_times_until_the_camera_dies(camera):
    process, address = camera
    numbers, problem = seen(address, 30, process.kill)
    assert numbers == [index % 20 for index in range(len(numbers))]
    assert 30 <= len(numbers) < NUM_FRAMES
    assert problem == f"it ended after {len(numbers) / 25:.2f} s"


def test_a_camera_that_falls_silent_is_left(camera, monkeypatch):
    monkeypatch.setattr("sapiens_client.video.sources._TIMEOUT_S", 2.0)
    process, address = camera
    numbers, problem = seen(address, 30, lambda: os.kill(process.pid, signal.SIGSTOP))
    assert 30 <= len(numbers) < NUM_FRAMES
    assert problem == "it breaks off: nothing came for 2 s"


@pytest.mark.parametrize("is_pressed", [False, True], ids=["the camera dies", "Ctrl-C"])
def test_results_get_their_names_when_a_stream_ends(camera, served, tmp_path, is_pressed):
    process, address = camera
    command = ("detect", address, "--format", "json", "--format", "picture")
    with sapiens_on_a_terminal(command, tmp_path, {"SAPIENS_URL": served.grpc_url}) as terminal:
        terminal.until(r" ([6-9]|\d\d+)/\? [\d.]+ frames/s")
        if is_pressed:
            terminal.press(CTRL_C)
        else:
            process.kill()
        assert terminal.exit_status() == 0, terminal.text
        assert is_pressed or "it ended after" in terminal.text
    name = re.sub("[:/]+", "_", address)
    movie, lines = (tmp_path / "out" / f"{name}_detect.{suffix}" for suffix in ("mp4", "jsonl"))
    assert sorted((tmp_path / "out").iterdir()) == [lines, movie]
    frames = [json.loads(line)["frame"] for line in lines.read_text().splitlines()]
    assert len(frames) > 5
    assert frames == sorted({*frames})
    with Reader(movie) as reader:
        assert len(list(reader.frames())) == len(frames)
