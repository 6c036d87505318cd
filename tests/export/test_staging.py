"""What exports that were killed leave, and who removes it."""

import errno
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_exports import write_depth

from sapiens_core.contract.folders import MOVES_FILE
from sapiens_export.repository.staging import staging_folder, sweep

# An export that stops for ever where it would rename the n-th folder of a model.
STUCK = """
import sys, threading
from pathlib import Path
from small_exports import write_depth

rename, num_left = Path.rename, int(sys.argv[2])

def stuck(path, target):
    global num_left
    num_left -= path.is_dir()
    if num_left < 0:
        print("stuck", flush=True)
        threading.Event().wait()
    return rename(path, target)

Path.rename = stuck
write_depth(Path(sys.argv[1]), max_batch_size=7)
"""
STAGED = """
import sys, threading
from pathlib import Path
from sapiens_export.repository import staging

if sys.argv[2] == "inside":
    staging._staging_beside = lambda _repository: None
with staging.staging_folder(Path(sys.argv[1])) as folder:
    (folder / "engine").mkdir()
    print(folder, flush=True)
    threading.Event().wait()
"""


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def running(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )


def killed(code, *arguments):
    """Run code until it prints a line, kill it, and return the line."""
    with running(code, *arguments) as process:
        line = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    return line


@pytest.mark.parametrize("place", ["beside", "inside"])
def test_the_next_export_removes_what_a_killed_one_has_left(place, tmp_path):
    models = tmp_path / "models"
    left = Path(killed(STAGED, models, place))
    assert left.is_dir()
    assert left.parent == (models if place == "inside" else tmp_path)
    write_depth(models)
    assert not left.exists()
    assert not [path for path in (*tmp_path.iterdir(), *models.iterdir()) if path.name.startswith(".")]


@pytest.mark.parametrize("place", ["beside", "inside"])
def test_the_folder_of_an_export_that_goes_on_stays(place, tmp_path):
    models = tmp_path / "models"
    with running(STAGED, models, place) as process:
        folder = Path(process.stdout.readline().strip())
        write_depth(models)
        assert (folder / "engine").is_dir()
        process.kill()


@pytest.mark.parametrize(
    "name", [".models-backup", ".models-export-mine", "models-export-abcdefgh", ".other"]
)
def test_folders_of_other_names_are_nobody_s(name, tmp_path):
    (tmp_path / name / "precious").mkdir(parents=True)
    with staging_folder(tmp_path / "models"):
        pass
    assert (tmp_path / name / "precious").is_dir()


@pytest.mark.parametrize("num_renames", range(10))
def test_an_export_that_is_killed_while_it_moves_is_undone_by_the_next(num_renames, tmp_path):
    models = tmp_path / "models"
    write_depth(models)
    before = contents(models)
    assert killed(STUCK, models, num_renames) == "stuck"
    with staging_folder(models):
        assert contents(models) == before
    assert os.listdir(tmp_path) == ["models"]  # noqa: PTH208


def test_a_half_written_list_of_moves_means_that_none_was_begun(tmp_path):
    models = tmp_path / "models"
    write_depth(models)
    before = contents(models)
    left = Path(killed(STAGED, models, "beside"))
    (left / ".moving-unfinished").write_text('["depth')
    with staging_folder(models):
        assert contents(models) == before
    assert not left.exists()


def test_a_new_repository_is_exported_after_a_killed_export(tmp_path):
    models = tmp_path / "models"
    killed(STUCK, models, 2)
    write_depth(models, max_batch_size=3)
    manifest = json.loads((models / "depth_engine" / "manifest.json").read_text())
    assert manifest["serving"]["max_batch_size"] == 3


def test_a_cleaning_up_that_is_interrupted_costs_no_model(tmp_path, monkeypatch):
    repository, staging = tmp_path / "models", tmp_path / ".models-export-abcdefgh"
    (repository).mkdir()
    (staging / "depth.old").mkdir(parents=True)
    (staging / "depth.old" / "served").touch()
    (staging / "depth").mkdir()
    (staging / MOVES_FILE).write_text(json.dumps(["depth"]))
    with monkeypatch.context() as patched:
        patched.setattr(
            "shutil.rmtree", lambda folder, **_: (folder / "depth").rmdir()
        )  # and then it is killed
        sweep(repository)
    sweep(repository)
    assert (repository / "depth" / "served").exists()
    assert not staging.exists()


def test_a_list_of_moves_that_cannot_be_read_leaves_its_folder_alone_and_exports_name_it(tmp_path):
    repository, staging = tmp_path / "models", tmp_path / ".models-export-abcdefgh"
    (repository).mkdir()
    (staging / "depth.old").mkdir(parents=True)
    (staging / MOVES_FILE).touch()
    (note,) = write_depth(repository).notes
    assert (staging / "depth.old").is_dir()
    assert note.startswith(f"{staging} is left by an export that was interrupted, and may hold the only copy")


def test_models_that_cannot_be_put_back_are_kept_and_the_next_export_puts_them_back(tmp_path, monkeypatch):
    models = tmp_path / "models"
    write_depth(models)
    before, rename = contents(models), Path.rename

    def failing(path, target):
        if path.is_dir() and target.name == "depth_postprocess":  # neither the new folder nor the old one
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        with pytest.raises(ValueError, match=r"must be put back into .* they are kept in (\S+), ") as raised:
            write_depth(models, max_batch_size=7)
    gc.collect()
    (staging,) = tmp_path.glob(".models-export-*")
    assert f"kept in {staging}, " in str(raised.value)
    assert (staging / "depth_postprocess.old" / "config.pbtxt").is_file()
    with staging_folder(models):
        assert contents(models) == before
    assert not staging.exists()


def test_what_a_step_relies_on_is_on_the_disk_before(tmp_path, monkeypatch):
    """There is no power cut to try it with, so the order of the calls is looked at."""
    models, events = tmp_path / "models", []
    write_depth(models)
    fsync, rename, unlink, rmtree = os.fsync, Path.rename, Path.unlink, shutil.rmtree

    def synced(descriptor):
        events.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))  # noqa: PTH115
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(
        Path, "rename", lambda path, target: events.append(("move", path)) or rename(path, target)
    )
    monkeypatch.setattr(
        Path, "unlink", lambda path, **options: events.append(("unlink", path)) or unlink(path, **options)
    )
    monkeypatch.setattr(
        shutil, "rmtree", lambda path, **options: events.append(("remove", path)) or rmtree(path, **options)
    )
    write_depth(models, max_batch_size=7)

    staging = next(path.parent for event, path in events if path.name == MOVES_FILE)
    begun = events.index(("move", staging / f"{MOVES_FILE}-unfinished"))
    moved = [index for index, (event, path) in enumerate(events) if event == "move" and models == path.parent]
    forgotten, removed = events.index(("unlink", staging / MOVES_FILE)), events.index(("remove", staging))
    new = {staging / path.relative_to(models) for path in models.rglob("*")}
    assert new | {staging / f"{MOVES_FILE}-unfinished"} <= {path for _, path in events[:begun]}
    assert ("sync", staging) in events[begun : moved[0]]
    assert {("sync", models), ("sync", staging)} <= set(events[moved[-1] : forgotten])
    assert ("sync", staging) in events[forgotten:removed]
