from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from sapiens_client.cli.commands import app

SAPIENS = [sys.executable, "-c", "from sapiens_client.cli.main import main; main()"]

Sapiens = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sapiens(url, tmp_path) -> Sapiens:
    """Run the command in an empty folder, with the test server as its default."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SAPIENS_URL": url}
        command = [*SAPIENS, *map(str, arguments)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.run(command, cwd=tmp_path, env=environment, text=True, check=False, **streams)

    return run


@pytest.fixture
def invoke(url, tmp_path, monkeypatch) -> Callable[..., Result]:
    """Run the command in this process, which takes less time, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner(env={"SAPIENS_URL": url}).invoke(app, list(map(str, arguments)))


@pytest.fixture
def photos(tmp_path, photo, encode) -> Path:
    """A folder with two photos and a note."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "b.png").write_bytes(encode(photo))
    (folder / "a.JPG").write_bytes(encode(photo, "JPEG"))
    (folder / "notes.txt").write_text("no image")
    return folder


def test_every_image_gets_its_picture_and_the_user_a_warning(sapiens, photos, tmp_path):
    done = sapiens("depth", photos)
    assert (done.returncode, done.stdout.split()) == (0, ["out/a.JPG_depth.png", "out/b.png_depth.png"])
    with Image.open(tmp_path / "out" / "a.JPG_depth.png") as picture:
        assert picture.size == (90, 120)
    assert done.stderr.count("licence of the weights: CC-BY-NC-4.0") == 1
    assert done.stderr.count("untrained") == 1


def test_formats_may_be_combined(sapiens, photos, tmp_path):
    done = sapiens("depth", photos / "b.png", "-o", "new/folder", "--format", "npy", "--format", "png16")
    assert done.returncode == 0
    written = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert written == ["b.png_depth.16.json", "b.png_depth.16.png", "b.png_depth.npy"]
    assert np.load(tmp_path / "new/folder/b.png_depth.npy").shape == (120, 90)


def test_a_bad_image_is_reported_and_the_others_are_done(sapiens, photos):
    (photos / "aa.png").write_bytes(b"no image")
    done = sapiens("depth", photos, photos / "missing.jpg")
    assert (done.returncode, done.stdout.split()) == (1, ["out/a.JPG_depth.png", "out/b.png_depth.png"])
    failures = [line for line in done.stderr.splitlines() if line.startswith(str(photos))]
    assert [line.partition(": image ")[0] for line in failures] == [
        str(photos / "aa.png"),
        str(photos / "missing.jpg"),
    ]
    assert done.stderr.endswith("\n2 done, 0 skipped, 2 failed\n")
    assert "Traceback" not in done.stderr


def test_without_a_server_everything_stops_at_once(sapiens, photos, dead_url):
    done = sapiens("depth", photos, "--url", dead_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: a Triton server must answer at {dead_url}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--timeout", "0"], ["--url", "http://localhost"]])
def test_a_wrong_option_is_one_line(sapiens, photos, arguments):
    done = sapiens("depth", photos, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: ")


def test_results_go_into_a_folder(invoke, photos):
    assert invoke("depth", photos, "-o", photos / "b.png").exit_code == 2


def test_options_about_the_connection_have_a_panel_of_their_own(invoke):
    _, _, panel = invoke("depth", "--help").stdout.partition("─ Connection ─")
    names = ("--url", "--tls", "--tls-ca", "--tls-cert", "--tls-key", "--tls-server-name", "--token-file")
    assert all(name in panel for name in names)


def test_no_concurrency_is_wrong_usage(sapiens, photos):
    assert sapiens("depth", photos, "--concurrency", "0").returncode == 2


def test_an_unknown_option_is_wrong_usage(sapiens):
    assert sapiens("depth", "--colour", "red").returncode == 2


def test_paths_go_to_standard_output_also_when_a_bar_is_on_the_terminal(sapiens, photos):
    controller, terminal = pty.openpty()
    done = sapiens("depth", photos, stderr=terminal)
    os.close(terminal)
    assert done.stdout.split() == ["out/a.JPG_depth.png", "out/b.png_depth.png"]
    assert b"100%" in os.read(controller, 10_000)
    os.close(controller)


def test_ctrl_c_ends_cleanly(url, photos, slow_image):
    for number in range(20):  # half a minute
        Image.fromarray(slow_image).save(photos / f"slow{number}.png")
    command = [*SAPIENS, "depth", "photos", "--url", url, "--concurrency", "1"]
    with subprocess.Popen(
        command, cwd=photos.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        for _ in range(2):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"Traceback" not in words
    written = sorted(path.name for path in (photos.parent / "out").iterdir())
    assert written[:2] == ["a.JPG_depth.png", "b.png_depth.png"]
    assert words.decode().endswith(
        f"{len(written)} done, 0 skipped, 0 failed; interrupted, the same command with --resume goes on\n"
    )


@pytest.mark.parametrize("task", ["normal", "seg", "features", "detect", "people"])
def test_every_task_has_its_command(invoke, photos, tmp_path, task):
    done = invoke(task, photos, "--format", "picture", "--format", "npz")
    names = [f"{name}_{task}.{suffix}" for name in ("a.JPG", "b.png") for suffix in ("png", "npz")]
    assert (done.exit_code, done.stdout.split()) == (0, [f"out/{name}" for name in names])
    assert done.stderr.count("licence of the weights") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*names}


def test_coco_results_carry_the_numbers_of_the_images_if_all_have_one(invoke, photos, tmp_path):
    def ids(*images: Path) -> list[int | str]:
        assert invoke("people", *images, "--format", "json").exit_code == 0
        paths = sorted((tmp_path / "out").glob("*.json"))
        results = [json.loads(path.read_text()) for path in paths]
        assert {len(people) for people in results} == {9}
        assert {len(people[0]["keypoints"]) for people in results} == {51}
        return [people[0]["image_id"] for people in results]

    (photos / "b.png").rename(photos / "000139.png")
    assert ids(photos / "000139.png") == [139]
    assert ids(photos) == ["000139.png", "a.JPG"]


def test_a_folder_may_take_the_results_of_its_own_images(invoke, photos):
    for expected in ("2 done, 0 skipped", "0 done, 2 skipped", "0 done, 2 skipped"):
        done = invoke("depth", photos, "-o", photos, "--resume")
        assert (done.exit_code, f"\n{expected}, 0 failed\n" in f"\n{done.stderr}") == (0, True)
    assert "left out: 1 .txt (no images), 2 results of earlier runs\n" in done.stderr


def test_files_of_one_name_keep_their_folders(invoke, photos, tmp_path):
    for folder in ("cam0", "cam1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes((photos / "b.png").read_bytes())
    done = invoke("depth", "cam0/1.png", "cam1/1.png")
    assert (done.exit_code, done.stdout.split()) == (
        0,
        ["out/cam0/1.png_depth.png", "out/cam1/1.png_depth.png"],
    )


def test_folders_of_folders_are_left_out_aloud_or_taken(invoke, photos, tmp_path):
    (photos / "sub").mkdir()
    words = "1 folders (--recursive takes what is in them)"
    assert words in invoke("depth", photos, "-o", "elsewhere").stderr
    done = invoke("depth", tmp_path, "--recursive")
    written = ["out/photos/a.JPG_depth.png", "out/photos/b.png_depth.png"]
    assert (done.exit_code, done.stdout.split()) == (0, written)


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_a_name_that_is_too_long_for_results_is_reported_and_the_others_are_done(invoke, photos, options):
    (photos / ("\u5199" * 82 + ".jpg")).write_bytes((photos / "a.JPG").read_bytes())
    done = invoke("depth", photos, *options)
    assert (done.exit_code, done.stdout.split()) == (1, ["out/a.JPG_depth.png", "out/b.png_depth.png"])
    assert "File name too long" in done.stderr
    assert done.stderr.endswith("\n2 done, 0 skipped, 1 failed\n")


@pytest.mark.parametrize("close", ["1>&-", "| true", ">/dev/full", "2>/dev/full 1>&-"])
def test_nobody_has_to_read_the_names_of_the_results(url, photos, tmp_path, close):
    command = f'"$0" -c "from sapiens_client.cli.main import main; main()" depth photos --url {url} {close}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert done.stderr.endswith("\n2 done, 0 skipped, 0 failed\n") or "2>" in close
    assert len([*(tmp_path / "out").iterdir()]) == 2


@pytest.mark.parametrize("task", ["people", "detect"])
def test_a_picture_of_nobody_is_told(invoke, photos, task):
    Image.new("RGB", (5, 50)).save(photos / "nobody.png")
    done = invoke(task, photos)
    assert (done.exit_code, len(done.stdout.split())) == (0, 3)
    told = [line for line in done.stderr.splitlines() if "persons" in line]
    assert told == [f"0 persons found in {photos / 'nobody.png'}"]


def test_class_ids_are_a_format_of_their_own(invoke, photos, tmp_path):
    done = invoke("seg", photos / "b.png", "--format", "ids", "--format", "json")
    assert done.stdout.split() == ["out/b.png_seg.ids.png", "out/b.png_seg.json"]
    with Image.open(tmp_path / "out/b.png_seg.ids.png") as ids:
        assert (ids.mode, ids.size) == ("L", (90, 120))


@pytest.mark.parametrize(("task", "form"), [("depth", "ids"), ("seg", "png16"), ("people", "npy")])
def test_a_format_that_the_task_does_not_have_is_wrong_usage(invoke, photos, task, form):
    done = invoke(task, photos, "--format", form)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--format of {task} must be one of picture" in done.stderr


def test_pose_takes_boxes_for_a_single_image(invoke, pose_url, photos, tmp_path):
    boxes = ["--bbox", "5,5,60,100", "--bbox", "-10,0,50.5,90"]
    done = invoke("pose", photos / "b.png", *boxes, "--format", "npz", "--url", pose_url)
    assert (done.exit_code, done.stdout.split()) == (0, ["out/b.png_pose.npz"])
    with np.load(tmp_path / "out/b.png_pose.npz") as arrays:
        assert arrays["bboxes"].tolist() == [[5, 5, 60, 100], [-10, 0, 50.5, 90]]


@pytest.mark.parametrize(
    ("box", "words"), [("1,2,3", "'1,2,3'"), ("a,b,c,d", "'a,b,c,d'"), ("1,2,30,40", "single image, got 2")]
)
def test_wrong_boxes_are_wrong_usage(invoke, photos, box, words):
    done = invoke("pose", photos, "--bbox", box)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in " ".join(done.stderr.replace("│", " ").split())


def test_analyze_writes_what_each_task_says(invoke, photos):
    done = invoke("analyze", photos / "b.png", "--task", "seg", "--task", "depth", "--task", "people")
    written = ["out/b.png_seg.png", "out/b.png_depth.png", "out/b.png_people.png"]
    assert (done.exit_code, done.stdout.split()) == (0, written)
    assert done.stderr.count("licence of the weights") == 3


def test_analyze_keeps_the_answers_beside_a_failing_task(invoke, photos, failing_image):
    Image.fromarray(failing_image).save(photos / "c.png")
    done = invoke("analyze", photos, "--task", "depth", "--task", "normal")
    assert (done.exit_code, len(done.stdout.split())) == (1, 5)
    assert f"{photos / 'c.png'}: " in done.stderr
    assert done.stderr.endswith("\n2 done, 0 skipped, 1 failed\n")


def test_analyze_stops_where_a_task_is_not_served(sapiens, photos):
    done = sapiens("analyze", photos, "--task", "pose")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "must serve the model 'pose'" in done.stderr


def test_help_names_the_sub_commands_and_version_is_the_distributions(sapiens):
    assert {"depth", "people", "analyze", "export", "serve"} <= set(sapiens("--help").stdout.split())
    assert sapiens("--version").stdout == f"sapiens {version('sapiens-triton')}\n"
