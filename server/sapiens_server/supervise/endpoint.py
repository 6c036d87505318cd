"""The supervisor's own HTTP endpoint: /live, /ready and /metrics."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from sapiens_server.addresses import free_address
from sapiens_server.supervise.health import Health

_TIMEOUT_S = 5.0  # for whoever connects and says nothing
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HealthEndpoint:
    """Answers while its `with` block runs.

    Args:
        health: What to tell.
        host: Address to listen on.
        port: Port; 0: any free one.

    Attributes:
        address: Where it listens, "host:port".

    Raises:
        PortInUseError: The port is taken.
        AddressError: This machine does not have that address, or may not use that port.
    """

    def __init__(self, health: Health, host: str, port: int) -> None:
        self.address = free_address(host, port, "health")
        found_host, _, found_port = self.address.rpartition(":")
        self._server = ThreadingHTTPServer((found_host, int(found_port)), _handler(health))
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S
        protocol_version = "HTTP/1.1"

        def log_message(self, *_words: object) -> None:
            pass

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/live":
                self._answer(200, "ok\n", "text/plain")
            elif path == "/ready":
                status = health.status()
                self._answer(
                    200 if status.is_ready else 503,
                    json.dumps(
                        {
                            "ready": status.is_ready,
                            "phase": status.phase,
                            "problems": status.problems,
                            "models": status.models,
                        }
                    ),
                    "application/json",
                )
            elif path == "/metrics":
                self._answer(200, health.metrics(), _METRICS_TYPE)
            else:
                self._answer(404, "there are /live, /ready and /metrics\n", "text/plain")

        def do_HEAD(self) -> None:
            self.do_GET()

        def _answer(self, status: int, text: str, content_type: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler
