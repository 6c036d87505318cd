"""One `sapiens serve` with real models, and a Prometheus that scrapes it and its server."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest
import yaml
from live import OBSERVABILITY, PATIENCE_S, Prometheus, Served
from real_servers import becomes_true

from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.weights.sources import built_in_detector, source_from_seed

COMMAND = "from sapiens_client.cli.main import main; main()"


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
    command = (sys.executable, "-c", COMMAND, "serve", "--repository", str(repository))
    ports = ("--grpc-port", "0", "--metrics-port", "0", "--health-port", "0")
    errors = tmp_path_factory.mktemp("log") / "errors"
    with errors.open("w") as stream:
        process = subprocess.Popen([*command, *ports], stdout=PIPE, stderr=stream, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = re.match(r"serving at (\S+), metrics (\S+), health (\S+): ", line)
        assert found, errors.read_text()
        yield Served(process, *found.groups())
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)


@pytest.fixture(scope="session")
def prometheus(served, tmp_path_factory) -> Iterator[Prometheus]:
    """Runs with the config that is shipped, but for addresses, which no name resolves to here, and haste."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(OBSERVABILITY / name) for name in config["rule_files"]]
    addresses = {"triton": served.metrics_url, "sapiens-serve": served.health_url}
    for job in config["scrape_configs"]:
        assert job.pop("dns_sd_configs")
        job["static_configs"] = [{"targets": [addresses[job["job_name"]]]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        address = f"127.0.0.1:{chosen.getsockname()[1]}"
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        running = Prometheus(address)
        assert becomes_true(running.is_up)
        yield running
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
