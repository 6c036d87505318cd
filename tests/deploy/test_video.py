"""A long video: nothing lost, memory flat, and what Ctrl-C leaves plays and can be gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from clips import numbered, sound_of, write_clip

from sapiens_client.testing import FakeServer
from sapiens_client.video.decoding import Reader

ROOT = Path(__file__).parents[2]
SAPIENS = [sys.executable, "-c", "from sapiens_client.cli.main import main; main()"]
NUM_FRAMES = 300


@pytest.fixture
def server():
    with FakeServer(persons=2) as server:
        yield server


@pytest.fixture
def clip(tmp_path) -> Path:
    few = numbered(20, size=(720, 1280))
    return write_clip(tmp_path / "clip.mp4", [few[index % 20] for index in range(NUM_FRAMES)], has_sound=True)


def frames_of(path):
    with Reader(path) as reader:
        for frame in reader.frames():
            yield round(frame.time_s * 25)


def test_the_benchmark_meets_its_figures():
    command = [sys.executable, ROOT / "bench" / "video.py", "--frames", "300", "--size", "1280x720"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_after_ctrl_c_what_there_is_plays_and_the_rest_follows(server, clip, tmp_path):
    command = [*SAPIENS, "people", clip, "-o", tmp_path / "out", "--format", "picture", "--format", "json"]
    environment = {**os.environ, "SAPIENS_URL": server.url}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    lines = tmp_path / "out" / "clip.mp4_people.part.jsonl"
    with subprocess.Popen(command, **pipes) as running:
        while running.poll() is None and (not lines.exists() or lines.read_bytes().count(b"\n") < 60):
            pass
        running.send_signal(signal.SIGINT)
        _, told = running.communicate()
    assert running.returncode == 130, told
    num_kept = len([*frames_of(tmp_path / "out" / "clip.mp4_people.part.mp4")])
    assert 60 <= num_kept < NUM_FRAMES
    done = subprocess.run([*command, "--resume"], check=False, **pipes)
    assert done.returncode == 0, done.stderr
    assert "goes on at frame" in done.stderr
    assert [*frames_of(tmp_path / "out" / "clip.mp4_people.mp4")] == list(range(NUM_FRAMES))
    written = [
        json.loads(line) for line in (tmp_path / "out" / "clip.mp4_people.jsonl").read_text().splitlines()
    ]
    assert [line["frame"] for line in written] == list(range(NUM_FRAMES))
    assert all(len(line["results"]) == 2 for line in written)
    assert sound_of(tmp_path / "out" / "clip.mp4_people.mp4")[0] == sound_of(clip)[0]
