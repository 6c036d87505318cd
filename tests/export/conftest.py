from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from sapiens_core.tasks import Task
from sapiens_export.networks.config import NetworkConfig


@pytest.fixture(scope="session")
def tiny_network() -> NetworkConfig:
    """The architecture of golden/sapiens1/net_depth."""
    return NetworkConfig("sapiens", Task.DEPTH, 32, 2, 2, 0, (64, 48), 12, 1)


@pytest.fixture
def network_file(tiny_network, tmp_path) -> Path:
    path = tmp_path / "NET.json"
    path.write_text(json.dumps(asdict(tiny_network)))
    return path
