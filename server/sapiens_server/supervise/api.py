"""What a running server is asked by its supervisor, over HTTP on this machine."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

KEY_HEADER = "admin-key"
# What asking a server raises that is gone, hangs, or garbles its answer.
UNANSWERED = (OSError, HTTPException, ValueError)
_OK = 200
_TIMEOUT_S = 5.0
_SAMPLE = re.compile(r'^(nv_inference_\w+)\{[^}]*?model="([^"]*)"(?:,reason="(\w+)")?[^}]*\} (\S+)$', re.M)


@dataclass(frozen=True)
class Counts:
    """What a server has counted since its start.

    Attributes:
        succeeded: Requests answered, by model.
        num_finished: Requests answered or failed, of all models.
        num_pending: Requests that wait.
        num_backend_failures: Requests that failed in a backend, such as those to dead model processes.
    """

    succeeded: Mapping[str, float]
    num_finished: float
    num_pending: float
    num_backend_failures: float


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    body: bytes

    @property
    def is_ok(self) -> bool:
        """Whether the server did what it was asked for."""
        return self.status == _OK

    @property
    def error(self) -> str:
        """The server's words for what went wrong, one line."""
        try:
            words = json.loads(self.body)["error"]
        except (ValueError, KeyError, TypeError):
            words = self.body[:200].decode(errors="replace")
        return " ".join(str(words).split()) or f"HTTP status {self.status}"


@dataclass(frozen=True)
class ServerApi:
    """The HTTP and metrics services of one server.

    Every method raises one of `UNANSWERED` where there is no answer.

    Attributes:
        http: Address of its HTTP service, "host:port".
        metrics: Address of its metrics.
        key: What its restricted routes want to hear.
    """

    http: str
    metrics: str
    key: str

    def is_live(self) -> bool:
        """Return whether it says that it can work."""
        return self._ask("GET", "/v2/health/live").is_ok

    def ready_models(self) -> list[str]:
        """Return the names of the models that it has loaded."""
        reply = self._ask("POST", "/v2/repository/index")
        entries = json.loads(reply.body) if reply.is_ok else []
        return sorted({entry["name"] for entry in entries if entry.get("state") == "READY"})

    def config(self, model: str) -> Mapping[str, object]:
        """Return the config of a model; empty where it has been unloaded."""
        reply = self._ask("GET", f"/v2/models/{model}/config")
        return dict(json.loads(reply.body)) if reply.is_ok else {}

    def is_ready(self, model: str) -> bool:
        """Return whether it says that the model can work; from 26.04 on also whether its processes live."""
        return self._ask("GET", f"/v2/models/{model}/ready").is_ok

    def infer(self, model: str, body: bytes, timeout_s: float) -> Reply:
        """Return the answer to an inference request."""
        return self._ask("POST", f"/v2/models/{model}/infer", body, timeout_s)

    def counts(self) -> Counts:
        """Return what it has counted."""
        return _counts(_answer(self.metrics, "GET", "/metrics", {}, b"", _TIMEOUT_S).body.decode())

    def _ask(self, method: str, path: str, body: bytes = b"", timeout_s: float = _TIMEOUT_S) -> Reply:
        return _answer(self.http, method, path, {KEY_HEADER: self.key}, body, timeout_s)


def _answer(
    address: str, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float
) -> Reply:
    connection = HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Reply(response.status, response.read())
    finally:
        connection.close()


def _counts(text: str) -> Counts:
    succeeded: defaultdict[str, float] = defaultdict(float)
    totals: defaultdict[str, float] = defaultdict(float)
    for name, model, reason, value in _SAMPLE.findall(text):
        totals[name] += float(value)
        if name == "nv_inference_request_success":
            succeeded[model] += float(value)
        elif reason == "BACKEND":
            totals["backend_failures"] += float(value)
    return Counts(
        succeeded,
        totals["nv_inference_request_success"] + totals["nv_inference_request_failure"],
        totals["nv_inference_pending_request_count"],
        totals["backend_failures"],
    )
