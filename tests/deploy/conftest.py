"""One `sapiens serve` with real models, and a Prometheus that scrapes it and its server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Prometheus, Served, scraping, serving

from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.weights.sources import built_in_detector, source_from_seed


@pytest.fixture(scope="session")
def repository(golden_networks, tmp_path_factory) -> Path:
    """Untrained tiny networks for depth and pose, and the detector: so there is `people_pose`, too."""
    folder = tmp_path_factory.mktemp("deploy") / "models"
    for name in ("depth", "pose17"):
        export_engine(source_from_seed(golden_networks[name], 0), folder, EngineOptions())
    export_engine(built_in_detector(), folder)
    return folder


@pytest.fixture(scope="session")
def served(repository, tmp_path_factory) -> Iterator[Served]:
    with serving(repository, tmp_path_factory.mktemp("log")) as one:
        yield one


@pytest.fixture(scope="session")
def prometheus(served, tmp_path_factory) -> Iterator[Prometheus]:
    with scraping(served, tmp_path_factory.mktemp("prometheus")) as running:
        yield running
