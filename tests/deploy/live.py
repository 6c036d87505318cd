"""What runs while the tests of a deployment look at it."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
