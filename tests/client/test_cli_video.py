from __future__ import annotations

import functools
import http.server
import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clips import numbered, sound_of, write_clip
from terminal import CTRL_C, sapiens_on_a_terminal
from typer.testing import CliRunner, Result

from sapiens_client import DepthResult
from sapiens_client.cli.commands import app
from sapiens_client.cli.video_files import Lines, Movie
from sapiens_client.cli.videos import video_files
from sapiens_client.testing import FakeServer
from sapiens_client.video.decoding import Reader

NUM_FRAMES = 12


@pytest.fixture
def invoke(url, tmp_path, monkeypatch) -> Callable[..., Result]:
    """Run the command in an empty folder but for clip.mp4, which has sound."""
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4", numbered(NUM_FRAMES), has_sound=True)
    return lambda *arguments: CliRunner(env={"SAPIENS_URL": url}).invoke(app, list(map(str, arguments)))


def frames_of(path):
    with Reader(path) as reader:
        return list(reader.frames())


def lines_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def interrupt(monkeypatch, after):
    """Press Ctrl-C once so many frames are written."""
    add, seen = Lines.add, []

    def interrupted(self, frame, answer):
        if len(seen) == after:
            raise KeyboardInterrupt
        seen.append(frame)
        add(self, frame, answer)

    monkeypatch.setattr(Lines, "add", interrupted)


def test_a_clip_becomes_a_clip_with_its_sound_and_lines(invoke):
    done = invoke("people", "clip.mp4", "--format", "picture", "--format", "json")
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == ["out/clip.mp4_people.mp4", "out/clip.mp4_people.jsonl"]
    assert "clip.mp4: 12 frames" in done.stderr
    assert done.stderr.count("licence of the weights") == 1
    source, frames = frames_of("clip.mp4"), frames_of("out/clip.mp4_people.mp4")
    assert [frame.time_s for frame in frames] == pytest.approx([frame.time_s for frame in source], abs=1e-3)
    (heard, times_s), (expected, expected_s) = map(sound_of, ("out/clip.mp4_people.mp4", "clip.mp4"))
    assert heard == expected
    assert times_s == pytest.approx(expected_s, abs=1e-3)
    lines = lines_of("out/clip.mp4_people.jsonl")
    assert [line["frame"] for line in lines] == list(range(NUM_FRAMES))
    assert [person["track_id"] for person in lines[-1]["results"]] == list(range(1, 10))
    assert len(lines[0]["results"][0]["keypoints"]) == 3 * 17
    assert [path.name for path in Path("out").iterdir() if ".part" in path.name] == []


def test_after_an_interruption_the_pieces_play_and_the_rest_follows(invoke, monkeypatch):
    command = ("detect", "clip.mp4", "--format", "json", "--format", "picture")
    whole = invoke(*command, "-o", "whole")
    for after, expected in ((5, 5), (4, 9)):
        with monkeypatch.context() as patched:
            interrupt(patched, after)
            done = invoke(*command, "--resume")
        assert done.exit_code == 130
        assert f"interrupted after {expected} frames" in done.stderr
        assert not Path("out/clip.mp4_detect.mp4").exists()
    assert len(frames_of("out/clip.mp4_detect.part.mp4")) == 5
    done = invoke(*command, "--resume")
    assert (done.exit_code, whole.exit_code) == (0, 0)
    assert "goes on at frame 9" in done.stderr
    assert lines_of("out/clip.mp4_detect.jsonl") == lines_of("whole/clip.mp4_detect.jsonl")
    frames, expected = frames_of("out/clip.mp4_detect.mp4"), frames_of("whole/clip.mp4_detect.mp4")
    times_s = [frame.time_s for frame in frames]
    assert times_s == pytest.approx([frame.time_s for frame in expected], abs=1e-3)
    differences = [
        [np.abs(frame.image.astype(int) - other.image).mean() for other in expected] for frame in frames
    ]
    assert np.argmin(differences, axis=1).tolist() == list(range(NUM_FRAMES))
    assert sound_of("out/clip.mp4_detect.mp4")[0] == sound_of("clip.mp4")[0]
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "clip.mp4_detect.jsonl",
        "clip.mp4_detect.mp4",
    ]
    again = invoke(*command, "--resume")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "skipped" in again.stderr


def test_a_terminal_tells_rate_and_time_left_and_ctrl_c_leaves_what_plays(tmp_path):
    write_clip(tmp_path / "clip.mp4", numbered(20) * 6)
    command = ("detect", "clip.mp4", "--format", "json", "--format", "picture", "--resume")
    with FakeServer(persons=1) as server:
        environment = {"SAPIENS_URL": server.url}
        server.latency_s = 0.2
        with sapiens_on_a_terminal(command, tmp_path, environment) as terminal:
            terminal.until(r"clip\.mp4 \S+ +\d+/120 [\d.]+ frames/s \d:\d\d:\d\d")
            terminal.press(CTRL_C)
            assert terminal.exit_status() == 130
            kept = int(terminal.until(r"interrupted after (\d+) frames")[1])
        assert 0 < kept < 120
        assert len(frames_of(tmp_path / "out/clip.mp4_detect.part.mp4")) == kept
        server.latency_s = 0
        with sapiens_on_a_terminal(command, tmp_path, environment) as terminal:
            assert terminal.exit_status() == 0
            terminal.until(f"goes on at frame {kept}")
            terminal.until(r"120/120 [\d.]+ frames/s 0:00:00")
    assert [line["frame"] for line in lines_of(tmp_path / "out/clip.mp4_detect.jsonl")] == list(range(120))
    times_s = [frame.time_s for frame in frames_of(tmp_path / "out/clip.mp4_detect.mp4")]
    assert times_s == pytest.approx([index / 25 for index in range(120)], abs=1e-3)


def test_a_stream_of_an_address_that_breaks_off_gives_what_came(invoke, tmp_path):
    content = write_clip(tmp_path / "live.ts", numbered(NUM_FRAMES)).read_bytes()
    sent = len(content) * 3 // 4

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:sent])

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = invoke("detect", f"http://127.0.0.1:{server.server_address[1]}/live", "--format", "json")
        server.shutdown()
    assert done.exit_code == 0, done.output
    (path,) = done.stdout.split()
    frames = [line["frame"] for line in lines_of(path)]
    assert frames == list(range(len(frames)))
    assert 0 < len(frames) < NUM_FRAMES
    assert "/live: it breaks off" in done.stderr


def test_ctrl_c_leaves_a_frame_in_all_files_or_in_none(invoke, monkeypatch):
    add = Movie.add

    def interrupted(self, frame, answer):
        if frame.index == 5:
            signal.raise_signal(signal.SIGINT)
        add(self, frame, answer)

    monkeypatch.setattr(Movie, "add", interrupted)
    done = invoke("detect", "clip.mp4", "--format", "json", "--format", "picture")
    assert done.exit_code == 130
    assert "interrupted after 6 frames" in done.stderr
    assert len(lines_of("out/clip.mp4_detect.part.jsonl")) == 6
    assert len(frames_of("out/clip.mp4_detect.part.mp4")) == 6


def test_some_frames_and_files_for_each(invoke):
    done = invoke("depth", "clip.mp4", "--every", 5, "--format", "npz")
    assert (done.exit_code, done.stdout.split()) == (0, ["out/clip.mp4_depth"])
    names = sorted(path.name for path in Path("out/clip.mp4_depth").iterdir())
    assert names == ["000000.npz", "000005.npz", "000010.npz"]
    assert DepthResult.load("out/clip.mp4_depth/000005.npz").depth.shape == (64, 96)


def test_lines_become_parquet(invoke):
    parquet = pytest.importorskip("pyarrow.parquet")
    done = invoke("people", "clip.mp4", "--format", "parquet", "--det-frequency", 1, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["frames"], told["problem"], told["errors"]) == (NUM_FRAMES, None, [])
    table = parquet.read_table("out/clip.mp4_people.parquet")
    assert table.num_rows == NUM_FRAMES * 9
    assert {"frame", "time_s", "track_id", "bbox", "keypoints", "score"} <= {*table.column_names}


def test_videos_and_images_may_stand_side_by_side(invoke, photo, encode):
    Path("photo.png").write_bytes(encode(photo))
    done = invoke("seg", "photo.png", "clip.mp4")
    assert (done.exit_code, done.stdout.split()) == (0, ["out/clip.mp4_seg.mp4", "out/photo.png_seg.png"])


def test_what_cannot_be_read_is_said_and_the_others_are_done(invoke):
    content = Path("clip.mp4").read_bytes()
    Path("broken.mp4").write_bytes(content[: len(content) // 3])
    done = invoke("detect", "broken.mp4", "missing.mp4", "clip.mp4")
    assert (done.exit_code, done.stdout.split()) == (1, ["out/clip.mp4_detect.mp4"])
    assert "broken.mp4: " in done.stderr
    assert "missing.mp4: video must exist" in done.stderr


def test_an_address_is_a_video_too(invoke, tmp_path):
    write_clip(tmp_path / "web.mp4", numbered(NUM_FRAMES), movflags="faststart")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/web.mp4"
        done = invoke("detect", address, "--every", 4)
        server.shutdown()
    assert done.exit_code == 0, done.output
    (path,) = done.stdout.split()
    frames = frames_of(path)
    assert [round(frame.time_s, 2) for frame in frames] == [0, 0.16, 0.32]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pose", "clip.mp4", "--bbox", "0,0,9,9"), "--bbox is for a single image"),
        (("depth", "photo.png", "--every", "2"), "are for videos"),
        (("depth", "clip.mp4", "--format", "json"), "--format of depth must be one of"),
        (("depth", "photo.png", "--format", "parquet"), "--format of depth must be one of"),
    ],
    ids=lambda each: each[-1] if isinstance(each, tuple) else "",
)
def test_options_that_do_not_go_together_are_refused(invoke, arguments, words):
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())


def test_results_are_no_videos_and_same_names_keep_their_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/clip.mp4", "b/clip.mp4", "a/clip.mp4_people.mp4", "a/other.mp4_people.part2.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    given = [
        *map(str, sorted(Path().rglob("*.mp4"))),
        "a/../a/clip.mp4",
        "rtsp://me:secret@camera/live?key=1",
    ]
    names = [file.name for file in video_files(given, 1)]
    assert names == ["a/clip.mp4", "a/other.mp4_people.part2.mp4", "b/clip.mp4", "rtsp_camera_live"]
    assert [file.name for file in video_files(["a/clip.mp4"], 1)] == ["clip.mp4"]
