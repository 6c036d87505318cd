from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file

from sapiens_core.tasks import ENGINE_FILES, Task
from sapiens_export import pipeline
from sapiens_export.checkpoints import network_from_weights
from sapiens_export.engines import Engine, engine_from_torchscript
from sapiens_export.exporter import EngineOptions, export_engine, install_hog_detector
from sapiens_export.sources import Source
from sapiens_server import RunningServer, serve


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
    install_hog_detector(repository)
    return repository


@pytest.fixture(scope="session")
def tasks_server(tasks_repository) -> Iterator[RunningServer]:
    """A real tritonserver that serves them."""
    with serve(tasks_repository, grpc_port=0) as server:
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
    with serve(depth_repository, grpc_port=0) as server:
        yield server


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
