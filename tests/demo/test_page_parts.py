"""What the page is made of, without gradio and a browser: tests/deploy/test_page.py has these."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import PIL.Image
import pytest
from clips import numbered, write_clip

from sapiens_client import InvalidInputError, SapiensClient
from sapiens_client.errors import ClientClosedError, ImageReadError, ModelNotServedError
from sapiens_client.testing import FakeServer
from sapiens_core.labels import class_set, keypoint_set
from sapiens_demo import clips as page_clips
from sapiens_demo.answers import asked, served_tasks
from sapiens_demo.clips import followed
from sapiens_demo.figures import MAX_SIDE, facts, joints_figure, parts_figure, sentence, shown_size

GREY = PIL.Image.new("RGB", (80, 60), (128, 128, 128))


@pytest.fixture(scope="module")
def client():
    with FakeServer(persons=1) as server, SapiensClient(server.url) as one:
        yield one


@pytest.fixture
def photograph(photo, encode, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(photo, "JPEG"))
    return path


def groups(figure):
    return ElementTree.fromstring(figure).findall("g")


def test_parts_are_named_with_their_shares_and_small_ones_lie_above():
    classes = class_set("goliath")
    class_map = np.zeros((60, 80), np.uint8)
    class_map[10:40, 10:40], class_map[20:30, 20:30] = 3, 2
    parts = groups(parts_figure(GREY, class_map, classes))
    assert [each.find("title").text for each in parts] == [
        f"{classes.names[3]} 89%",
        f"{classes.names[2]} 11%",
    ]
    assert parts[1].find("path").get("d") == "M20,20 20,29 29,29 29,20Z"
    assert parts[0].find("path").get("d").count("M") == 2  # its hole is none of it
    assert parts[0].get("fill") == "rgb({}, {}, {})".format(*classes.palette[3])
    for part in parts:
        name = part.find("text")
        assert class_map[int(float(name.get("y"))), int(float(name.get("x")))] in (2, 3)


def test_joints_are_named_where_they_are_without_unsure_ones_and_in_the_size_that_is_shown():
    names = keypoint_set("coco")
    keypoints, scores = np.zeros((2, 17, 2), np.float32), np.zeros((2, 17), np.float32)
    keypoints[1, 7], scores[1, 7], scores[0, 3] = (3000, 300), 0.876, 0.29
    (joint,) = groups(joints_figure(PIL.Image.new("RGB", (MAX_SIDE * 4, 400)), keypoints, scores, names))
    assert joint.find("title").text == f"{names.names[7]} 0.88"
    circle = joint.find("circle")
    assert (circle.get("cx"), circle.get("cy")) == ("750.0", "75.0")
    assert joint.find("text").get("text-anchor") == "end"


def test_words_of_servers_are_no_html():
    assert "<b>" not in sentence("<b>")
    error = ModelNotServedError("<b>no such model</b>")
    assert facts({"depth": error}) == sentence(f"depth: {error}", is_error=True)


def test_pictures_are_shown_no_larger_than_is_looked_at():
    assert shown_size(GREY) is GREY
    assert shown_size(PIL.Image.new("L", (5, 4 * MAX_SIDE))).size == (1, MAX_SIDE)


def glb_content(content):
    magic, _, size, length = struct.unpack_from("<4sIII", content)
    assert (magic, size) == (b"glTF", len(content))
    return json.loads(content[20 : 20 + length])


def test_a_picture_is_asked_about(client, photograph, tmp_path):
    tasks = served_tasks(client.models().values())
    answers = asked(client, photograph, tasks, tmp_path)
    assert [*answers.shown] == tasks
    for shown in answers.shown.values():
        assert [each.size for each in shown.pair] == [(90, 120)] * 2
    assert {task for task, shown in answers.shown.items() if shown.figure} == {"seg", "pose", "people"}
    assert {task for task, shown in answers.shown.items() if shown.surface} == {"depth", "pointmap"}
    assert "licence of the weights" in answers.facts
    for line in ("untrained, so its results mean nothing", "people "):
        assert line in answers.facts
    with zipfile.ZipFile(answers.download) as archive:
        names = {*archive.namelist()}
        assert {f"{task}{end}" for task in tasks for end in (".png", ".npz")} <= names
        assert names >= {"seg.json", "people.json", "depth.glb"}
        depth = np.load(io.BytesIO(archive.read("depth.npz")))["depth"]
    assert np.array_equal(depth, client.depth(photograph).depth)


def test_depth_stands_out_of_the_picture_as_near_as_it_is(client, photograph, tmp_path):
    """The nearest point is 0.3 lengths before the farthest; all are inside the picture's frame."""
    answers = asked(client, photograph, ["depth"], tmp_path)
    (position, *_) = glb_content(answers.shown["depth"].surface.read_bytes())["accessors"]
    (left, bottom, far), (right, top, near) = position["min"], position["max"]
    assert near - far == pytest.approx(0.3, abs=1e-6)
    assert (left, right) == pytest.approx((-0.375, 0.375 - 1 / 120))
    assert (top, bottom) == pytest.approx((0.5, -0.5 + 1 / 120))


def test_what_the_server_refuses_is_an_error_and_one_task_that_fails_a_sentence(client, tmp_path):
    (tmp_path / "note.jpg").write_text("no picture")
    with pytest.raises(InvalidInputError, match="image must be a JPEG"):
        asked(client, tmp_path / "note.jpg", ["depth"], tmp_path)
    with FakeServer(models=["depth"]) as server, SapiensClient(server.url) as other:
        PIL.Image.new("RGB", (90, 60)).save(tmp_path / "grey.png")
        answers = asked(other, tmp_path / "grey.png", ["depth", "seg"], tmp_path)
    assert [*answers.shown] == ["depth"]
    assert answers.facts.count('role="alert"') == 1


def test_a_video_becomes_a_clip_and_lines(client, tmp_path):
    video = write_clip(tmp_path / "clip.mp4", numbered(5), has_sound=True)
    told = [*followed(client, video, "people", 2, tmp_path)]
    assert [each.num_frames for each in told] == [1, 2, 3, 3]
    assert {each.total for each in told} == {3}
    with av.open(str(told[-1].movie)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3
        assert container.streams.audio
    with zipfile.ZipFile(told[-1].download) as archive:
        assert archive.namelist() == ["clip.mp4_people.mp4", "clip.mp4_people.jsonl"]
        assert len(archive.read("clip.mp4_people.jsonl").splitlines()) == 3
    assert "people" in told[-1].facts


def parts_in(folder):
    """How many frames are in the files under way about people."""
    (movie,), (lines,) = folder.glob("*_people.part.mp4"), folder.glob("*_people.part.jsonl")
    with av.open(str(movie)) as container:
        return sum(1 for _ in container.decode(video=0)), len(lines.read_bytes().splitlines())


def test_a_video_that_is_stopped_has_its_frames_in_all_files(client, tmp_path):
    video = write_clip(tmp_path / "clip.mp4", numbered(5), has_sound=True)
    going = followed(client, video, "people", 1, tmp_path)
    assert [next(going).num_frames for _ in range(3)] == [1, 2, 3]
    going.close()
    assert parts_in(tmp_path) == (3, 3)
    assert not [*tmp_path.glob("*_people.mp4")]


def test_a_video_ends_with_the_page_and_not_in_frames_without_results(tmp_path):
    video = write_clip(tmp_path / "clip.mp4", numbered(40))
    with FakeServer(persons=1) as server, SapiensClient(server.url) as other:
        going = followed(other, video, "people", 1, tmp_path)
        next(going)
        other.close()
        with pytest.raises(ClientClosedError):
            list(going)
    num_frames, num_lines = parts_in(tmp_path)
    assert num_frames == num_lines < 40
    assert not [*tmp_path.glob("*_people.mp4")]


def test_videos_that_are_none_or_too_long_are_refused(client, tmp_path, monkeypatch):
    (tmp_path / "note.mp4").write_text("no video")
    with pytest.raises(ImageReadError, match=r"note\.mp4"):
        next(followed(client, tmp_path / "note.mp4", "depth", 1, tmp_path))
    monkeypatch.setattr(page_clips, "MAX_FRAMES", 2)
    video = write_clip(tmp_path / "clip.mp4", numbered(5))
    with pytest.raises(InvalidInputError, match="at most 2 frames, got 5"):
        next(followed(client, video, "depth", 1, tmp_path))


def test_without_the_extra_one_sentence_says_what_to_install(tmp_path):
    program = (
        "import sys; sys.modules['gradio'] = None; sys.argv = ['sapiens', 'demo', '--url', '127.0.0.1:1']\n"
        "from sapiens_client.cli.main import main; main()"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sapiens demo needs gradio: pip install 'sapiens-triton[demo]'\n"


def test_a_port_that_is_taken_is_refused_before_a_server_is_started(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [Path(sys.executable).with_name("sapiens"), "demo", "--port", str(port)]
        environment = {name: value for name, value in os.environ.items() if name != "SAPIENS_URL"}
        environment["SAPIENS_CACHE"] = str(tmp_path)
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: the page must have a free port at 127.0.0.1, got 'Address already in use' for {port}; "
        "choose another with --port or --host\n"
    )
    assert [*tmp_path.iterdir()] == []
