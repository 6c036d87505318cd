from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import HubServer, running_hub
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from sapiens_core.contract.engines import Precision
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS
from sapiens_export.engines.reduced import ServedNetwork
from sapiens_export.exporter import EngineOptions, model_info
from sapiens_export.networks.config import NANODET, NetworkConfig
from sapiens_export.networks.sapiens import SapiensNetwork
from sapiens_export.parity.images import parity_pixels
from sapiens_export.repository.manifest import InstalledEngine
from sapiens_export.repository.serving import Serving
from sapiens_export.repository.write import Written, write_models
from sapiens_export.weights.checkpoints import network_from_weights, random_network

GOLDEN_OF_TASK = {
    Task.DEPTH: "depth",
    Task.NORMAL: "normal",
    Task.SEG: "seg",
    Task.POSE: "pose17",
    Task.FEATURES: "pretrain",
}
TRAINING_STEPS = 250

# Read once, by huggingface_hub as it loads; else its first request of all goes to the public hub.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The networks are too small for more; servers, which other tests compare with, have more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_network(golden_networks) -> NetworkConfig:
    """The architecture of golden/sapiens1/net_depth."""
    return golden_networks["depth"]


@pytest.fixture
def network_file(tiny_network, tmp_path) -> Path:
    path = tmp_path / "NET.json"
    path.write_text(json.dumps(asdict(tiny_network)))
    return path


@pytest.fixture(scope="session")
def tiny_weights(golden_networks, golden_folder) -> Callable[[Task], SapiensNetwork]:
    """A function (task) -> the reference's tiny network, of random weights."""

    @cache
    def network(task: Task) -> SapiensNetwork:
        name = GOLDEN_OF_TASK[task]
        weights = load_file(golden_folder / f"net_{name}.safetensors")
        return network_from_weights(golden_networks[name], weights, name).requires_grad_(False)

    return network


@pytest.fixture(scope="session")
def trained(golden_networks) -> Callable[[Task], SapiensNetwork]:
    """A function (task) -> a tiny network that knows the fixed images by heart.

    Unlike one of random weights it is sure of its classes and keypoints, as those that are worth serving.
    """
    return cache(lambda task: _trained(golden_networks[GOLDEN_OF_TASK[task]]))


@pytest.fixture(scope="session")
def served() -> Callable[..., ServedNetwork]:
    """A function (network, precision, flip indices) -> it as it is served."""

    def module(
        network: SapiensNetwork,
        precision: Precision = "float32",
        flip_indices: Sequence[int] | None = None,
    ) -> ServedNetwork:
        return ServedNetwork(
            network,
            NORMALIZATIONS["full"],
            network.config.recipe,
            precision=precision,
            flip_indices=flip_indices,
        ).eval()

    return module


@pytest.fixture(scope="session")
def install_detector() -> Callable[..., Written]:
    """A function (repository, operator's choices) that writes a detector's models without its engine."""

    def install(repository: Path, serving: Serving | None = None) -> Written:
        info = model_info(NANODET, EngineOptions(), is_trained=True)
        return write_models(
            repository, InstalledEngine(NANODET, info, serving or Serving()), engine=None, facts={}
        )

    return install


@pytest.fixture
def hub_server() -> Iterator[HubServer]:
    with running_hub() as server:
        yield server


@pytest.fixture
def config_folder(tmp_path, monkeypatch) -> Path:
    """Where the user's choices are kept, instead of the real place."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def _trained(config: NetworkConfig) -> SapiensNetwork:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in vars(NORMALIZATIONS["full"]).values())
    images = (torch.from_numpy(parity_pixels(config.input_hw)).permute(0, 3, 1, 2).float() - mean) / std
    network, targets = random_network(config, seed=0).train(), _targets(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(TRAINING_STEPS):
        optimizer.zero_grad()
        _loss(config.task, network(images), targets).backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


def _loss(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    if task is Task.SEG:
        return functional.cross_entropy(outputs, targets)
    return functional.mse_loss(outputs, targets) * (100 if task is Task.POSE else 1)


def _targets(config: NetworkConfig) -> Tensor:
    """Return smooth targets of the two images: blocks of classes, peaks, or waves."""
    (height, width), channels = config.output_hw, config.num_outputs
    rows, columns = np.mgrid[:height, :width]
    if config.task is Task.SEG:
        blocks = rows * 4 // height * 4 + columns * 4 // width
        return torch.from_numpy(np.stack([blocks, blocks[::-1]]))
    if config.task is Task.POSE:
        x, y = np.random.default_rng(0).uniform(2, [[[width - 3]], [[height - 3]]], (2, 2, channels))
        distances2 = (columns - x[..., None, None]) ** 2 + (rows - y[..., None, None]) ** 2
        return torch.from_numpy(np.exp(-distances2 / 8)).float()
    angles = np.stack([rows / height + columns / width, rows / height - columns / width])
    waves = np.stack([np.sin(angles), np.cos(angles), np.ones_like(angles)], axis=1)
    return torch.from_numpy(waves[:, :channels]).float()
