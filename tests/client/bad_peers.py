"""Servers that go wrong in ways that neither Triton nor `FakeServer` can; most speak their own HTTP/2."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import grpc

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_PREFACE_BYTES = 24
_READY = b"\x08\x01"
_LARGEST_QUESTION = 100  # bytes of a message that asks about the server or a model, not with an image


@dataclass(frozen=True)
class Stream:
    """One call on a connection.

    Attributes:
        connection: Where it came from.
        number: Which stream of the connection it is.
    """

    connection: socket.socket
    number: int

    def send(self, kind: int, payload: bytes = b"", flags: int = 0, *, number: int | None = None) -> None:
        """Send a frame; it belongs to this stream unless told otherwise."""
        self.connection.sendall(_frame(kind, payload, flags, self.number if number is None else number))

    def headers(self, *, is_end: bool = False, **headers: str) -> None:
        """Send headers, called as they are but for "_" in place of "-"; `status` is HTTP's own."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        named = {":status" if name == "status" else name: text for name, text in named.items()}
        block = b"".join(b"\x00" + _text(name) + _text(text) for name, text in named.items())
        self.send(HEADERS, block, END_HEADERS | (END_STREAM if is_end else 0))

    def begin(self) -> None:
        """Send the headers of an answer."""
        self.headers(status="200", content_type="application/grpc")

    def end(self, code: int, text: str = "") -> None:
        """Send gRPC's status."""
        self.headers(grpc_status=str(code), grpc_message=text, is_end=True)

    def answer(self, message: bytes) -> None:
        """Answer as a server should."""
        self.begin()
        self.send(DATA, prefixed(message))
        self.end(0)


def prefixed(message: bytes, num_bytes: int | None = None) -> bytes:
    """Return a message as gRPC sends it, said to have so many bytes."""
    return struct.pack(">BI", 0, len(message) if num_bytes is None else num_bytes) + message


Spoil = Callable[[Stream], object]


def nothing(_: object) -> None:
    """Leave calls and connections as they are."""


def half(stream: Stream) -> None:
    stream.begin()
    stream.send(DATA, prefixed(b"half", num_bytes=8))


def broken_off(stream: Stream) -> None:
    half(stream)
    stream.end(0)


def without_status(stream: Stream) -> None:
    half(stream)
    stream.send(DATA, flags=END_STREAM)


def closed(stream: Stream) -> None:
    half(stream)
    stream.connection.shutdown(socket.SHUT_RDWR)


def torn(stream: Stream) -> None:
    half(stream)
    _tear(stream.connection)


def leaving(stream: Stream) -> None:
    stream.send(GOAWAY, bytes(8), number=0)
    stream.connection.shutdown(socket.SHUT_RDWR)


def reset(code: int) -> Spoil:
    """Return how half a reply ends with an error of HTTP/2."""

    def spoil(stream: Stream) -> None:
        half(stream)
        stream.send(RST_STREAM, code.to_bytes(4))

    return spoil


def http(status: int) -> Spoil:
    """Return how a proxy refuses by itself."""
    return lambda stream: stream.headers(status=str(status), content_type="text/html", is_end=True)


def closed_at_once(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.shutdown(socket.SHUT_RDWR)


def torn_at_once(connection: socket.socket) -> None:
    _tear(connection)


def greeting(line: bytes) -> Callable[[socket.socket], None]:
    """Return how something else says hello."""
    return lambda connection: connection.sendall(line + b"\r\n\r\n")


def _tear(connection: socket.socket) -> None:
    """Close a connection so that the other side is told that it was reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def spoiling(spoil: Spoil, config: bytes, *, is_early: bool = False, room: int = 1 << 30) -> Iterator[str]:
    """The address of a server that is ready and knows its models, but spoils every inference.

    Args:
        spoil: What it does once it has read a request.
        config: What it answers about models.
        is_early: Spoil a request once its first bytes are here.
        room: How many bytes it reads of a connection, beyond the first 65,535.
    """

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            _read(connection, _PREFACE_BYTES)
            connection.sendall(_frame(SETTINGS) + _frame(WINDOW_UPDATE, room.to_bytes(4)))
            for stream, num_bytes in _requests(connection, is_early=is_early):
                if num_bytes > _LARGEST_QUESTION:
                    spoil(stream)
                else:
                    stream.answer(config if num_bytes else _READY)

    with accepting(serve) as url:
        yield url


@contextmanager
def accepting(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """The address of a server that treats each connection in a thread of its own."""
    connections: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()  # what it has just accepted is to be closed too
            for connection in connections:
                connection.close()


@contextmanager
def service(port: int = 0, **methods: Callable[[bytes], bytes]) -> Iterator[str]:
    """The address of a gRPC server that has these methods of Triton's service, and nothing else."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(lambda request, _, answer=answer: answer(request))
        for name, answer in methods.items()
    }
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)]
    )
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def _requests(connection: socket.socket, *, is_early: bool) -> Iterator[tuple[Stream, int]]:
    """Yield every call once all of it is here, or some, with the size of its message until then."""
    sizes: dict[int, int] = {}
    while True:
        head = _read(connection, 9)
        size, kind, flags, number = int.from_bytes(head[:3]), head[3], head[4], int.from_bytes(head[5:])
        payload = _read(connection, size)
        if kind == SETTINGS and not flags & ACK:
            connection.sendall(_frame(SETTINGS, flags=ACK))
        elif kind == PING and not flags & ACK:
            connection.sendall(_frame(PING, payload, ACK))
        elif kind == DATA:
            is_first = number not in sizes
            sizes[number] = sizes.get(number, 0) + size
            if (is_early and is_first) or (not is_early and flags & END_STREAM):
                yield Stream(connection, number), sizes[number] - len(prefixed(b""))


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := connection.recv(size - len(data))):
            raise EOFError
        data += more
    return data


def _frame(kind: int, payload: bytes = b"", flags: int = 0, number: int = 0) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + number.to_bytes(4) + payload


def _text(text: str) -> bytes:
    """Write a text of a header, at most 126 bytes, as it is."""
    return bytes([len(text)]) + text.encode()
