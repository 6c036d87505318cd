from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file

from sapiens_core.tasks import ENGINE_FILE, Task
from sapiens_export import pipeline
from sapiens_export.checkpoints import network_from_weights
from sapiens_export.engines import engine_from_torchscript
from sapiens_export.exporter import Source, export_engine
from sapiens_export.networks.config import NetworkConfig
from sapiens_server import RunningServer, serve


@pytest.fixture(scope="session")
def depth_repository(golden_folder, tmp_path_factory) -> Path:
    """The reference's tiny depth network, exported."""
    config = NetworkConfig("sapiens", Task.DEPTH, 32, 2, 2, 0, (64, 48), 12, 1)
    weights = load_file(golden_folder / "net_depth.safetensors")
    repository = tmp_path_factory.mktemp("depth") / "models"
    export_engine(Source(network_from_weights(config, weights, "golden"), config, "ab" * 32), repository)
    return repository


@pytest.fixture(scope="session")
def depth_server(depth_repository) -> Iterator[RunningServer]:
    """A real tritonserver that serves it."""
    with serve(depth_repository, grpc_port=0) as server:
        yield server


@pytest.fixture(scope="session")
def in_process_depth(depth_repository) -> Callable[[bytes], NDArray[np.float32]]:
    """The same engine without a server: bytes of an image file -> (H, W) float32."""
    engine = engine_from_torchscript(depth_repository / "depth_engine" / "1" / ENGINE_FILE)
    return lambda encoded: pipeline.depth(encoded, engine, (64, 48))
