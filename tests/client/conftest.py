from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sapiens_client import DepthResult, ModelInfo, SapiensClient, Timing
from sapiens_server import serve

MODEL = ModelInfo(
    task="depth",
    family="sapiens",
    size="0.3b",
    precision="float32",
    runtime="python",
    licence="CC-BY-NC-4.0",
    untrained=True,
    checkpoint_sha256="",
)

TENSORS = """
input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1 ] } ]
output [
  { name: "depth" data_type: TYPE_FP32 dims: [ -1, -1 ] },
  { name: "image_hw" data_type: TYPE_INT32 dims: [ 2 ] }
]
"""

STEP = """
ensemble_scheduling { step [ {
  model_name: "stand_in"
  model_version: -1
  input_map { key: "image" value: "image" }
  output_map { key: "depth" value: "depth" }
  output_map { key: "image_hw" value: "image_hw" }
} ] }
"""

IMPATIENT_QUEUE = """
dynamic_batching { default_queue_policy {
  max_queue_size: 1
  timeout_action: REJECT
  default_timeout_microseconds: 100000
} }
"""

PARAMETERS = "\n".join(
    f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}'
    for name, value in MODEL.to_parameters().items()
)

CONFIGS = {
    "depth": f'platform: "ensemble" {TENSORS} {STEP} {PARAMETERS}',
    "stand_in": f'backend: "python" {TENSORS} instance_group [ {{ kind: KIND_CPU count: 2 }} ]',
    "crowded": f'backend: "python" {TENSORS} {IMPATIENT_QUEUE} instance_group [ {{ kind: KIND_CPU }} ]',
}


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server: `depth` as contracted, `crowded` with room for one waiting request."""
    repository = tmp_path_factory.mktemp("repository")
    for name, config in CONFIGS.items():
        version = repository / name / "1"
        version.mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(f'name: "{name}" max_batch_size: 0 {config}')
        if name != "depth":
            shutil.copy(Path(__file__).with_name("stand_in_model.py"), version / "model.py")
    with serve(repository, grpc_port=0) as server:
        yield server.grpc_url


@pytest.fixture
def client(url: str) -> Iterator[SapiensClient]:
    with SapiensClient(url) as client:
        yield client


@pytest.fixture(scope="session")
def dead_url() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="session")
def slow_image() -> np.ndarray:
    """The server takes 1.5 s for it."""
    return np.zeros((1, 2, 3), np.uint8)


@pytest.fixture(scope="session")
def failing_image() -> np.ndarray:
    """The server's model raises RuntimeError for it."""
    return np.zeros((1, 3, 3), np.uint8)


@pytest.fixture(scope="session")
def unanswered_image() -> np.ndarray:
    """The server's model returns no depth for it."""
    return np.zeros((1, 4, 3), np.uint8)


@pytest.fixture
def result() -> DepthResult:
    rng = np.random.default_rng(0)
    depth = rng.normal(3, 2, (31, 17)).astype(np.float32)
    return DepthResult(depth=depth, model=MODEL, timing=Timing(0.3, 0.1, 0.2, 10, 20))
