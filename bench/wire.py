"""A proxy that counts what really travels: after compression, with the frames of HTTP/2 around it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self


class CountingProxy:
    """Forwards connections to a server on this machine until the end of its `with` block.

    Args:
        url: `host:port` of the server.

    Attributes:
        url: Where the proxy listens.
        num_sent: Bytes from clients so far.
        num_received: Bytes to clients so far.
    """

    def __init__(self, url: str) -> None:
        host, _, port = url.rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.url = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.num_sent = self.num_received = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for each in self._sockets:
            with suppress(OSError):  # who is gone already
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the end of the block
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        is_reply = source.getpeername() == self._target
        with suppress(OSError):
            while data := source.recv(2**20):
                target.sendall(data)
                if is_reply:
                    self.num_received += len(data)
                else:
                    self.num_sent += len(data)
            target.shutdown(socket.SHUT_WR)
