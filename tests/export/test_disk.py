"""Disks that have too little room for what an export writes."""

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
import torch

from sapiens_core.recipes.recipe import Task
from sapiens_export.commands.plan import IN_THE_WAY, export_plan
from sapiens_export.disk import DiskFullError
from sapiens_export.engines.cost import needed_bytes
from sapiens_export.engines.torchscript import _save
from sapiens_export.exporter import EngineOptions, export_engine, model_info
from sapiens_export.networks.config import released_network
from sapiens_export.repository.serving import Serving
from sapiens_export.weights import hub as hub_module
from sapiens_export.weights.sources import source_from_seed
from sapiens_export.weights.zoo import HubFile

Usage = namedtuple("Usage", "total used free")
# A file that grows beyond the limit fails like one on a full disk, of which there is none at hand.
LIMITED = """
import resource, sys, typer
from sapiens_export.commands.export import export_command
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
typer.run(export_command)
"""


@pytest.mark.parametrize(
    ("runtime", "limit"),
    [("python", 100), ("python", 40_000), ("torchscript", 100_000), ("onnx", 40_000)],
    ids=["reference", "start of the engine", "end of the engine", "ONNX"],
)
def test_an_export_that_does_not_fit_says_so_and_leaves_nothing(runtime, limit, network_file, tmp_path):
    words = ["depth", "--random-weights", "--network", network_file, "--repository", tmp_path / "out/models"]
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *map(str, words), "--runtime", runtime],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("sapiens export: ")]
    assert "must have room for what is written, got about " in sentence
    assert " needed, " in sentence
    assert os.listdir(tmp_path / "out") == []  # noqa: PTH208


@pytest.fixture
def nearly_full(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(10**9, 10**9 - 5000, 5000))


@pytest.mark.usefixtures("nearly_full")
def test_it_is_refused_before_the_work_and_the_plan_tells(tiny_network, tmp_path):
    steps, models = [], tmp_path / "models"
    with pytest.raises(DiskFullError, match=r"got about .* kB needed, 5\.0 kB free"):
        export_engine(source_from_seed(tiny_network, 0), models, on_step=steps.append)
    assert steps == []
    assert not models.exists()
    info = model_info(tiny_network, EngineOptions(), is_trained=False)
    plan = export_plan(tiny_network, info, Serving(), None, models)
    assert plan["disk"].endswith("needed, 5.0 kB free")
    assert "must have room" in plan[IN_THE_WAY]


@pytest.mark.parametrize(
    ("options", "weights"),
    [({}, 4), ({"precision": "float16"}, 2), ({"runtime": "onnx"}, 4), ({"runtime": "tensorrt"}, 2 * 2)],
    ids=["float32", "float16", "ONNX", "TensorRT, by way of ONNX"],
)
def test_the_weights_of_an_engine_make_most_of_what_is_needed(options, weights):
    config = released_network(Task.DEPTH, "0.3b")
    needed = needed_bytes(319_910_017, config, model_info(config, EngineOptions(**options), is_trained=True))
    assert needed == weights * 319_910_017 + 2 * 4 * 1024 * 768


def test_a_download_that_does_not_fit_says_so(hub_server, monkeypatch, tmp_path):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    file = HubFile("facebook/sapiens", "weights.pth")
    monkeypatch.setattr(hub_module, "hf_hub_download", full)
    monkeypatch.setattr(
        hub_module, "get_hf_file_metadata", lambda *_, **__: namedtuple("Metadata", "size")(7 * 10**6)
    )
    with pytest.raises(hub_module.DownloadError, match=r"about 7\.0 MB needed, .*; free some, or set HF_"):
        hub_module.download_checkpoint(file, hub=hub_module.Hub(hub_server.url, tmp_path / "cache"))


class Unsaveable:
    """A module that fails before it opens its file."""

    def save(self, _path):
        raise RuntimeError("no schema for this type")


def test_an_engine_that_cannot_be_saved_fails_at_once(tmp_path):
    with pytest.raises(RuntimeError, match="no schema for this type"):
        _save(Unsaveable(), tmp_path / "model.pt")


def test_a_writer_that_does_not_start_is_told(tmp_path, monkeypatch):
    module = torch.jit.script(torch.nn.Linear(1, 1))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="/bin/false must run as a process that writes the engine"):
        _save(module, tmp_path / "model.pt")
