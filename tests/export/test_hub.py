"""Downloads from a hub of our own, whose lines break when told so."""

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hub_server import COMMIT
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE
from safetensors.torch import load_file
from typer import Typer
from typer.testing import CliRunner

from sapiens_core.recipes.recipe import Task
from sapiens_export.commands.export import export_command
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.weights.hub import DownloadError, Hub, download_checkpoint
from sapiens_export.weights.official import checkpoint_from_zoo
from sapiens_export.weights.sources import source_from_checkpoint
from sapiens_export.weights.zoo import HubFile, zoo_entry

FILE = HubFile("facebook/sapiens-depth-0.3b", "sapiens_0.3b_render_people_epoch_100.pth")
NESTED = HubFile("somebody/weights", "host/pose/checkpoints/weights.pth", is_inferred=True)
CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def hub(hub_server, tmp_path):
    hub_server.files = {f"{file.repository}/{file.path}": CONTENT for file in (FILE, NESTED)}
    return Hub(hub_server.url, cache=tmp_path / "cache", token="secret")


def blobs(folder):
    return [
        path
        for path in folder.glob("cache/models--*/*/**/*")
        if not path.is_dir() and "refs" not in path.parts
    ]


@pytest.mark.parametrize("file", [FILE, NESTED], ids=["top level", "in folders"])
def test_a_file_is_downloaded_once(file, hub, hub_server):
    first = download_checkpoint(file, hub=hub)
    assert first.path.read_bytes() == CONTENT
    assert first.revision == COMMIT
    assert {request.headers["Authorization"] for request in hub_server.requests} == {"Bearer secret"}
    hub_server.requests.clear()
    assert download_checkpoint(file, hub=hub) == first
    assert hub_server.requests == []


def test_the_commit_that_is_known_is_fetched_and_no_other(hub, hub_server):
    pinned = replace(FILE, revision=COMMIT)
    assert download_checkpoint(pinned, hub=hub).revision == COMMIT
    assert all(f"/resolve/{COMMIT}/" in request.path for request in hub_server.requests)
    hub_server.requests.clear()
    assert download_checkpoint(pinned, hub=hub).path.read_bytes() == CONTENT
    assert hub_server.requests == []
    other = "f" * 40
    with pytest.raises(DownloadError, match=rf"100.pth in its commit {other}, it does not \(status 404\)"):
        download_checkpoint(replace(FILE, revision=other), hub=hub)


def test_a_broken_line_is_taken_up_where_it_broke(hub, hub_server):
    content = bytes(3 * DOWNLOAD_CHUNK_SIZE)
    hub_server.files[f"{FILE.repository}/{FILE.path}"] = content
    hub_server.faults = ["cut"]
    assert download_checkpoint(FILE, hub=hub).path.read_bytes() == content
    assert hub_server.ranges() == [f"bytes={DOWNLOAD_CHUNK_SIZE}-"]


def test_damage_on_the_way_is_noticed_and_removed(hub, hub_server, tmp_path):
    hub_server.faults = ["corrupt"]
    with pytest.raises(
        ValueError, match=r"must have the SHA-256 [0-9a-f]{64} .* the damaged copy was removed"
    ):
        download_checkpoint(FILE, hub=hub)
    assert blobs(tmp_path) == []
    assert download_checkpoint(FILE, hub=hub).path.read_bytes() == CONTENT


def test_damage_in_the_cache_is_noticed_and_removed(hub, tmp_path):
    path = download_checkpoint(FILE, hub=hub).path
    assert {blob.name for blob in blobs(tmp_path)} == {FILE.name, hashlib.sha256(CONTENT).hexdigest()}
    path.write_bytes(b"damage")
    with pytest.raises(ValueError, match="try again"):
        download_checkpoint(FILE, hub=hub)
    assert blobs(tmp_path) == []
    assert download_checkpoint(FILE, hub=hub).path.read_bytes() == CONTENT


def test_a_cut_and_a_flipped_bit_together_are_noticed(hub, hub_server):
    hub_server.faults = ["cut", "corrupt"]
    with pytest.raises(ValueError, match="must have the SHA-256"):
        download_checkpoint(FILE, hub=hub)


def test_a_file_shorter_than_announced_is_refused(hub, hub_server, tmp_path):
    hub_server.faults = ["short"]
    with pytest.raises(
        DownloadError, match=r"must arrive complete from .*should be of size 512000 but has size"
    ):
        download_checkpoint(FILE, hub=hub)
    assert blobs(tmp_path) == []


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ("gated", "access to http.*/facebook/sapiens-depth-0.3b must be granted, it is not; .*HF_TOKEN"),
        ("unauthorized", r"must exist and be open to you, it is not \(status 401\)"),
        ("forbidden", r"must exist and be open to you, it is not \(status 403\)"),
        (
            "missing",
            r"must hold sapiens_0.3b_render_people_epoch_100.pth, it does not \(status 404\); download",
        ),
        ("unavailable", "must answer, got .*503.*; try again later"),
        ("no hub", "must be a Hugging Face hub, it answers otherwise; check HF_ENDPOINT"),
    ],
)
def test_a_refusal_is_one_sentence_with_a_way_out(refusal, message, hub, hub_server):
    hub_server.refusal = refusal
    with pytest.raises(DownloadError, match=message) as error:
        download_checkpoint(FILE, hub=hub)
    assert "\n" not in str(error.value)


def test_a_guessed_path_is_said_to_be_one(hub, hub_server):
    hub_server.files.clear()
    with pytest.raises(DownloadError, match="its path was inferred, see there what it is called"):
        download_checkpoint(NESTED, hub=hub)


def test_an_unreachable_hub_is_told_at_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(DownloadError, match=f"{address} must be within reach, .*HF_ENDPOINT.*--mirror"):
        download_checkpoint(FILE, hub=Hub(address, cache=tmp_path))


def test_a_cache_that_cannot_be_written_to_is_told(hub, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"must be written to the cache: .*; check it, or set HF_HOME"):
        download_checkpoint(FILE, hub=hub)


@pytest.mark.parametrize(
    "place",
    [f"{NESTED.repository}/{NESTED.path}", NESTED.path, NESTED.name],
    ids=["as on the hub", "as in its repository", "the bare file"],
)
def test_a_mirror_is_used_instead_of_the_hub(place, hub, hub_server, tmp_path):
    copy = tmp_path / "mirror" / place
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT)
    download = download_checkpoint(NESTED, mirror=tmp_path / "mirror", hub=hub)
    assert (download.path, download.revision) == (copy, None)
    assert hub_server.requests == []


def test_a_mirror_without_the_file_says_where_it_should_be(tmp_path):
    with pytest.raises(ValueError, match=r"mirror must hold weights.pth, there is none at ") as error:
        download_checkpoint(NESTED, mirror=tmp_path)
    for place in (f"{NESTED.repository}/{NESTED.path}", NESTED.path, NESTED.name):
        assert str(tmp_path / place) in str(error.value)


@pytest.mark.usefixtures("config_folder")
def test_nothing_is_downloaded_without_consent(hub, hub_server):
    with pytest.raises(ValueError, match="pass --accept-licence"):
        checkpoint_from_zoo(zoo_entry(Task.DEPTH, "0.3b"), hub=hub)
    assert hub_server.requests == []


@pytest.mark.usefixtures("config_folder")
def test_published_weights_become_an_engine_that_says_where_they_are_from(
    hub, hub_server, golden_folder, tiny_network, tmp_path
):
    weights = io.BytesIO()
    torch.save({"state_dict": load_file(golden_folder / "net_depth.safetensors")}, weights)
    hub_server.files[f"{FILE.repository}/{FILE.path}"] = weights.getvalue()
    published = checkpoint_from_zoo(zoo_entry(Task.DEPTH, "0.3b"), accept_licence=True, hub=hub)
    assert published.entry == zoo_entry(Task.DEPTH, "0.3b")
    source = replace(
        source_from_checkpoint(Task.DEPTH, published.path, tiny_network), origin=published.origin
    )
    export_engine(source, tmp_path / "models", EngineOptions(licence=published.entry.licence))
    manifest = json.loads((tmp_path / "models" / "depth_engine" / "manifest.json").read_text())
    assert manifest["checkpoint_sha256"] == hashlib.sha256(weights.getvalue()).hexdigest()
    assert manifest["hub_repository"] == FILE.repository
    assert manifest["hub_file"] == FILE.path
    assert manifest["hub_revision"] == COMMIT
    assert manifest["licence"] == "CC-BY-NC-4.0"


@pytest.mark.usefixtures("config_folder")
def test_the_command_fetches_what_a_size_alone_asks_for(tmp_path):
    app = Typer(pretty_exceptions_enable=False)
    app.command()(export_command)
    (tmp_path / FILE.name).write_bytes(b"no weights")
    options = ["depth", "--size", "0.3b", "--mirror", str(tmp_path), "--repository", str(tmp_path / "models")]
    refused = CliRunner().invoke(app, options)
    assert refused.exit_code == 1
    assert "read it and pass --accept-licence" in " ".join(refused.output.split())
    for consent in (["--accept-licence"], []):
        result = CliRunner().invoke(app, [*options, *consent])
        assert result.exit_code == 1
        assert f"{tmp_path / FILE.name} must be a complete PyTorch or safetensors file" in result.output


def test_the_variables_of_the_hub_s_library_count(hub_server, tmp_path):
    hub_server.files[f"{FILE.repository}/{FILE.path}"] = CONTENT
    program = """
from sapiens_export.weights.hub import DownloadError, download_checkpoint
from sapiens_export.weights.zoo import ZOO
try:
    print(download_checkpoint(ZOO[0].file).path)
except DownloadError as error:
    print(error)
"""
    variables = {"HF_ENDPOINT": hub_server.url, "HF_HOME": str(tmp_path), "HF_TOKEN": "secret"}

    def output(**more):
        environment = {**os.environ, **variables, **more}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert "must be in the cache while HF_HUB_OFFLINE is set" in output(HF_HUB_OFFLINE="1")
    assert hub_server.requests == []
    path = output()
    assert tmp_path in Path(path).parents
    assert hub_server.requests[0].headers["Authorization"] == "Bearer secret"
    assert output(HF_HUB_OFFLINE="1") == path
