from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import numpy as np
import pytest
from numpy.typing import NDArray
from real_servers import running
from safetensors.torch import load_file

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.recipes.recipe import Task
from sapiens_export.engines.engine import Engine
from sapiens_export.engines.torchscript import engine_from_torchscript
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.parity import pipeline
from sapiens_export.weights.checkpoints import network_from_weights
from sapiens_export.weights.sources import Source, built_in_detector, source_from_seed
from sapiens_server import RunningServer

BUCKET = "bucket"
# What the server must find in its environment before it asks an object storage.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "nowhere",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def export_golden(golden_networks, golden_folder) -> Callable[..., None]:
    """A function (name of a golden network, repository, engine options) that exports it."""

    def export(name: str, repository: Path, **options: object) -> None:
        config = golden_networks[name]
        network = network_from_weights(config, load_file(golden_folder / f"net_{name}.safetensors"), name)
        export_engine(Source(network, config, "ab" * 32), repository, EngineOptions(**options))

    return export


@pytest.fixture(scope="session")
def tasks_repository(export_golden, tmp_path_factory) -> Path:
    """The reference's tiny network of every task, exported."""
    repository = tmp_path_factory.mktemp("tasks") / "models"
    for name in ("depth", "normal", "seg", "pose17", "pretrain"):
        export_golden(name, repository)
    export_engine(built_in_detector(), repository)
    return repository


@pytest.fixture(scope="session")
def tasks_server(tasks_repository) -> Iterator[RunningServer]:
    """A real tritonserver that serves them."""
    with running(tasks_repository, grpc_port=0, metrics_port=0) as server:
        yield server


@pytest.fixture(scope="session")
def depth_repository(export_golden, tmp_path_factory) -> Path:
    """The reference's tiny depth network alone."""
    repository = tmp_path_factory.mktemp("depth") / "models"
    export_golden("depth", repository)
    return repository


@pytest.fixture(scope="session")
def depth_server(depth_repository) -> Iterator[RunningServer]:
    """A real tritonserver that serves it."""
    with running(depth_repository, grpc_port=0) as server:
        yield server


@pytest.fixture(scope="session")
def several_repository(golden_networks, tmp_path_factory) -> Path:
    """Two untrained depth networks side by side, `depth` and `depth_2b`, and one for pose under a name."""
    repository = tmp_path_factory.mktemp("several") / "models"
    for seed, name in enumerate((None, "2b")):
        export_engine(source_from_seed(golden_networks["depth"], seed), repository, EngineOptions(name=name))
    export_engine(source_from_seed(golden_networks["pose17"], 0), repository, EngineOptions(name="0.3b"))
    return repository


@pytest.fixture(scope="session")
def engine_of(tasks_repository) -> Callable[[Task], Engine]:
    """The engine file that the server runs, as a function in this process."""
    return lambda task: engine_from_torchscript(
        tasks_repository / f"{task}_engine" / "1" / ENGINE_FILES["python"]
    )


@pytest.fixture(scope="session")
def in_process_depth(depth_repository) -> Callable[[bytes], NDArray[np.float32]]:
    """The same engine without a server: bytes of an image file -> (H, W) float32."""
    engine = engine_from_torchscript(depth_repository / "depth_engine" / "1" / ENGINE_FILES["python"])
    return lambda encoded: pipeline.depth(encoded, engine, (64, 48))


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A function (what it prints, its exit status) that puts such a program first on the path."""

    def make(words, status=0):
        folder = tmp_path / "programs"
        folder.mkdir()
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\nprintf '%b\\n' '{words}'\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    return make


@pytest.fixture
def object_storage(monkeypatch) -> Callable[[Path], AbstractContextManager[str]]:
    """A function: a folder -> a bucket with its files in a stand-in for S3, which knows no folders."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return _stored


@contextmanager
def _stored(folder: Path) -> Iterator[str]:
    """Serve files by the part of the S3 protocol with which tritonserver reads a repository."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            address = urlsplit(self.path)
            key = unquote(address.path).removeprefix(f"/{BUCKET}").lstrip("/")
            if key:
                path = folder / key
                body = path.read_bytes() if path.is_file() and not key.endswith("/") else None
            else:
                body = _listing(folder, parse_qs(address.query).get("prefix", [""])[0])
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"s3://http://127.0.0.1:{server.server_port}/{BUCKET}"
        finally:
            server.shutdown()


def _listing(folder: Path, prefix: str) -> bytes:
    keys = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    objects = "".join(
        f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys if key.startswith(prefix)
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>".encode()
