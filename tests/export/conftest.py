from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from sapiens_export.networks.config import NetworkConfig


@pytest.fixture(scope="session")
def tiny_network(golden_networks) -> NetworkConfig:
    """The architecture of golden/sapiens1/net_depth."""
    return golden_networks["depth"]


@pytest.fixture
def network_file(tiny_network, tmp_path) -> Path:
    path = tmp_path / "NET.json"
    path.write_text(json.dumps(asdict(tiny_network)))
    return path
