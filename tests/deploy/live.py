"""What runs while the tests of a deployment look at it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import yaml
from real_servers import becomes_true

COMMAND = "from sapiens_client.cli.main import main; main()"
OBSERVABILITY = Path(__file__).parents[2] / "docker" / "observability"
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Served:
    """A running `sapiens serve`."""

    process: subprocess.Popen[str]
    grpc_url: str
    metrics_url: str
    health_url: str


class Prometheus:
    """A running one, asked over HTTP."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, path: str, **words: str) -> Any:
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(words)}"
        with urllib.request.urlopen(url, timeout=60) as reply:
            return json.load(reply)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.ask("query", query=expression)["result"])

    def names(self) -> set[str]:
        return set(self.ask("label/__name__/values"))

    def is_up(self) -> bool:
        try:
            return len(self.query("up == 1")) == 2
        except OSError:
            return False


@contextmanager
def serving(repository: Path, folder: Path) -> Iterator[Served]:
    """Run `sapiens serve` with all its ports; its log goes into the folder."""
    command = (sys.executable, "-c", COMMAND, "serve", "--repository", str(repository))
    ports = ("--grpc-port", "0", "--metrics-port", "0", "--health-port", "0")
    errors = folder / "errors"
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


@contextmanager
def scraping(served: Served, folder: Path) -> Iterator[Prometheus]:
    """Runs with the config that is shipped, but for addresses, which no name resolves to here, and haste."""
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
