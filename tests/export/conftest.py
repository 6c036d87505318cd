from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hub_server import HubServer, running_hub

from sapiens_export.networks.config import NetworkConfig

# Read once, by huggingface_hub as it loads; else its first request of all goes to the public hub.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(scope="session")
def tiny_network(golden_networks) -> NetworkConfig:
    """The architecture of golden/sapiens1/net_depth."""
    return golden_networks["depth"]


@pytest.fixture
def network_file(tiny_network, tmp_path) -> Path:
    path = tmp_path / "NET.json"
    path.write_text(json.dumps(asdict(tiny_network)))
    return path


@pytest.fixture
def hub_server() -> Iterator[HubServer]:
    with running_hub() as server:
        yield server


@pytest.fixture
def config_folder(tmp_path, monkeypatch) -> Path:
    """Where the user's choices are kept, instead of the real place."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"
