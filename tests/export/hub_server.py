"""A small Hugging Face hub on the loopback interface, with faults on demand."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

COMMIT = "0123456789abcdef0123456789abcdef01234567"

# cut: the connection ends in the middle of the body; corrupt: one byte is another; short: the answer is
# complete, but shorter than was announced.
Fault = Literal["cut", "corrupt", "short"]
Refusal = Literal["gated", "unauthorized", "forbidden", "missing", "unavailable", "no hub"]

_REFUSALS: dict[Refusal, tuple[int, dict[str, str]]] = {
    "gated": (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to it is restricted."}),
    "unauthorized": (401, {"X-Error-Message": "Invalid username or password."}),
    "forbidden": (403, {"X-Error-Message": "Forbidden."}),
    "missing": (404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}),
    "unavailable": (503, {}),
    "no hub": (200, {}),
}


@dataclass(frozen=True)
class Request:
    """What a client has asked for."""

    method: str
    path: str
    headers: Message


@dataclass
class HubServer:
    """Its files, and what happened to it.

    Attributes:
        url: The endpoint.
        files: Content by "owner/name/file".
        faults: What goes wrong with the next downloads, one each.
        refusal: What every request is answered.
        requests: All requests so far.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    refusal: Refusal | None = None
    requests: list[Request] = field(default_factory=list)

    def ranges(self) -> list[str]:
        """Return the ranges that were asked for."""
        return [request.headers["Range"] for request in self.requests if "Range" in request.headers]


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """Serve on a free port of the loopback interface."""
    hub = HubServer()

    class Handler(_Handler):
        state = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_arguments: object) -> None: ...

    def _answer(self) -> None:
        self.state.requests.append(Request(self.command, self.path, self.headers))
        # Every file is there at the newest commit, whether it is asked for by name or by number.
        content = self.state.files.get(re.sub(rf"/resolve/(main|{COMMIT})/", "/", self.path[1:]))
        refusal = self.state.refusal or (None if content is not None else "missing")
        if refusal is not None:
            status, headers = _REFUSALS[refusal]
            self._send(status, {**headers, "Content-Length": "0"})
        elif content is not None:
            self._send_file(content)

    def _send(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_file(self, content: bytes) -> None:
        fault = self.state.faults.pop(0) if self.command == "GET" and self.state.faults else None
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Linked-Size": str(len(content)),
            "ETag": '"of-the-pointer"',
            # That the file may also be had from a storage of another protocol, which here is not there.
            "X-Xet-Hash": hashlib.sha256(content).hexdigest(),
            "Link": f'<{self.state.url}/api/xet-read-token/main>; rel="xet-auth"',
            "Accept-Ranges": "bytes",
        }
        body = _damaged(content[start:], fault)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        sent = len(body) if fault == "short" else len(content) - start
        self._send(206 if start else 200, {**headers, "Content-Length": str(sent)})
        if self.command == "GET":
            self.wfile.write(body)
        self.close_connection = fault == "cut"


def _damaged(body: bytes, fault: Fault | None) -> bytes:
    if fault == "corrupt":
        return bytes([body[0] ^ 1]) + body[1:]
    return body if fault is None else body[: len(body) // 2]
