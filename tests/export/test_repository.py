"""Where and how models are put into a repository."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sapiens_core.recipes.recipe import Task
from sapiens_export import exporter
from sapiens_export.documents import from_json
from sapiens_export.exporter import UNKNOWN_LICENCE, EngineOptions, export_engine
from sapiens_export.networks.config import released_network
from sapiens_export.repository.serving import Serving
from sapiens_export.repository.staging import staging_folder
from sapiens_export.weights.sources import source_from_seed

OTHER_DEVICE = Path("/dev/shm")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(not os.access(OTHER_DEVICE, os.W_OK), reason="there is no second device")
def test_a_repository_behind_a_link_may_be_on_another_device(install_detector, tmp_path):
    target = OTHER_DEVICE / f"sapiens-{os.getpid()}" / "models"
    target.mkdir(parents=True)
    (tmp_path / "models").symlink_to(target)
    try:
        install_detector(tmp_path / "models")
        assert (target / "detect_engine" / "1" / "model.py").is_file()
        assert list(tmp_path.iterdir()) == [tmp_path / "models"]
    finally:
        subprocess.run(["rm", "-r", target.parent], check=True)


@pytest.mark.skipif(not os.access(OTHER_DEVICE, os.W_OK), reason="there is no second device")
def test_the_staging_folder_is_inside_a_mounted_repository():
    with staging_folder(OTHER_DEVICE) as staging:
        assert staging.parent == OTHER_DEVICE
    assert not staging.exists()


def test_the_staging_folder_is_beside_other_repositories(tmp_path):
    with staging_folder(tmp_path / "new" / "models") as staging:
        assert staging.parent == tmp_path / "new"
    assert list((tmp_path / "new").iterdir()) == []


def test_a_repository_that_is_a_file_is_refused_before_the_work(tiny_network, tmp_path):
    (tmp_path / "models").write_text("")
    steps = []
    with pytest.raises(ValueError, match=r"folder that can be written to, .*models is not"):
        export_engine(source_from_seed(tiny_network, 0), tmp_path / "models", on_step=steps.append)
    assert steps == []


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_old_models_are_put_back_if_a_move_fails(error, install_detector, tmp_path, monkeypatch):
    install_detector(tmp_path)
    before = contents(tmp_path)
    rename, moves = Path.rename, []

    def failing(path, target):
        moves.append(target)
        if path.parent != tmp_path and target == tmp_path / "detect_preprocess" and error not in moves:
            moves.append(error)
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(error):
        install_detector(tmp_path, serving=Serving(max_batch_size=7))
    assert error in moves
    assert contents(tmp_path) == before


def test_exports_at_the_same_time_do_not_mix(install_detector, tmp_path):
    sizes = range(1, 9)
    with ThreadPoolExecutor(len(sizes)) as pool:
        list(
            pool.map(
                lambda size: install_detector(tmp_path, serving=Serving(max_batch_size=size)),
                sizes,
            )
        )
    size = json.loads((tmp_path / "detect_engine" / "manifest.json").read_text())["serving"]["max_batch_size"]
    for model in ("detect_engine", "detect_preprocess"):
        assert str(size) in (tmp_path / model / "config.pbtxt").read_text()
    assert all(path.name.startswith("detect") for path in tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_export_leaves_nothing_behind(number, network_file, tmp_path):
    command = (
        "import typer\n"
        "from sapiens_export import candidates\nfrom sapiens_export.commands import export as cli\n"
        "def slow(*_, **__):\n"
        "    print('tracing', flush=True)\n"
        "    __import__('time').sleep(60)\n"
        "candidates.build_engine = slow\n"
        "typer.run(cli.export_command)\n"
    )
    options = [
        "depth",
        "--random-weights",
        "--network",
        network_file,
        "--repository",
        tmp_path / "out/models",
    ]
    with subprocess.Popen(
        [sys.executable, "-c", command, *options], stdout=-1, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "tracing\n"
        time.sleep(0.1)
        process.send_signal(number)
        errors = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "sapiens export: interrupted"
    assert list((tmp_path / "out").iterdir()) == []


def info_of(source, **options):
    return exporter.model_info(source.config, EngineOptions(**options), is_trained=True)


def test_the_licence_is_the_release_s_for_released_sizes_only(tiny_network):
    custom = replace(source_from_seed(tiny_network, 0), checkpoint_sha256="ab" * 32)
    released = replace(custom, config=released_network(Task.DEPTH, "0.3b"))
    assert info_of(custom).licence == UNKNOWN_LICENCE
    assert info_of(released).licence == "CC-BY-NC-4.0"
    assert info_of(released, licence="mine").licence == "mine"


def test_the_manifest_records_seed_licence_and_the_operator_s_choices(tiny_network, tmp_path):
    serving = Serving(max_batch_size=3)
    export_engine(source_from_seed(tiny_network, 5), tmp_path, EngineOptions(licence="mine"), serving=serving)
    facts = json.loads((tmp_path / "depth_engine" / "manifest.json").read_text())
    assert (facts["seed"], facts["licence"], facts["name"]) == (5, "mine", None)
    assert from_json(Serving, json.dumps(facts["serving"])) == serving
