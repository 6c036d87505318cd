"""Peers that speak HTTP/2 badly, or stop in the middle: the server lives, and others do not notice."""

from __future__ import annotations

import os
import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import tritonclient.grpc as triton
from figures import Figure, at_least, at_most, exactly, told
from fuzz import memory_mb
from load import Load, Sizes
from servers import NUM_SLOTS, new_image
from supervised import Command, commands

from sapiens_client import SapiensClient

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _CONTINUATION, _UNKNOWN = 0, 1, 4, 9, 0xFA
_END_STREAM, _END_HEADERS = 1, 4
_WINDOW_SETTING, _SMALL_WINDOW = 4, 1024
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_NUM_UPLOADS, _NUM_DOWNLOADS = 200, 60
_UPLOAD_BYTES, _SENT_BYTES = 300_000, 16_000
_ANSWER_HW = (750, 1000)  # 3 MB of float32
_ANSWER_S = 2.0
_MAX_SLOWER = 1.05


def peers(sizes: Sizes) -> list[Figure]:
    """Malformed calls, then uploads that stall, then downloads that do; others call all the while."""
    with commands(1) as (command,), SapiensClient(command.grpc_url) as client:
        server = command.server()
        with Load(client, NUM_SLOTS) as load:
            load.until(sizes.event_s)
            before_s = _median_s(load, 0.0)
            for malformed in _malformed():
                _told(command, malformed)
            figures = [_others("malformed calls", load, sizes.event_s, before_s)]
            for what, stalled in (("uploads", _uploads), ("downloads", _downloads)):
                before_mb = memory_mb(command)
                with stalled(command):
                    began_s = load.now_s()
                    load.until(began_s + sizes.seconds / 3)
                    figures += [
                        _others(f"stalled {what}", load, began_s, before_s),
                        told(f"memory that stalled {what} take", memory_mb(command) - before_mb, "MB"),
                    ]
            load.until(load.now_s() + sizes.event_s)
            after_mb = memory_mb(command) - before_mb
        failures = sorted({call.failure for call in load.calls} - {""})
        return [
            told("malformed calls", len(_malformed())),
            *figures,
            told("memory once all of them are gone, beyond that before", after_mb, "MB"),
            exactly("failed calls of others", sum(bool(call.failure) for call in load.calls), 0),
            at_least("calls of others", len(load.calls), 1),
            exactly(
                "the server is the same process, and ready",
                (command.server(), command.is_ready()),
                (server, True),
            ),
            *(Figure("failure", failure) for failure in failures),
        ]


def _others(event: str, load: Load, since_s: float, before_s: float) -> Figure:
    return at_most(f"median of others' calls, {event}", _median_s(load, since_s) / before_s, _MAX_SLOWER, "x")


def _median_s(load: Load, since_s: float) -> float:
    return statistics.median(call.duration_s for call in load.calls if call.started_s >= since_s)


def _frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 1) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name: str, value: str) -> bytes:
    """Return a header that no table knows, in the words of HPACK."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


def _headers(path: str = _METHOD, content: str = "application/grpc") -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "peer",
        "content-type": content,
        "te": "trailers",
    }
    return _frame(_HEADERS, b"".join(_field(*item) for item in fields.items()), flags=_END_HEADERS)


def _message(body: bytes, *, length: int | None = None, flag: int = 0) -> bytes:
    """Return a message of gRPC that says to be so long."""
    return struct.pack(">BI", flag, len(body) if length is None else length) + body


def _ended(payload: bytes) -> bytes:
    return _frame(_DATA, payload, flags=_END_STREAM)


_START = _PREFACE + _frame(_SETTINGS, stream=0)


def _malformed() -> Sequence[bytes]:
    """Return what a peer says on a connection each."""
    junk = np.random.default_rng(0).bytes(2000)
    begun = _START + _headers()
    return (
        junk,
        b"GET / HTTP/1.1\r\nHost: peer\r\n\r\n",
        begun + _ended(_message(b"half", length=8)),
        begun + _ended(_message(b"", length=2**31)),
        begun + _ended(_message(junk)),
        begun + _ended(_message(b"")),
        begun + _ended(_message(junk, flag=1)),
        _START + _headers("/no.such/Method") + _ended(_message(b"")),
        _START + _headers(content="text/plain") + _ended(_message(b"")),
        begun + _frame(_DATA, junk, stream=0),
        begun + _frame(_DATA, bytes(2**15)),
        _START + _frame(_CONTINUATION, junk) + _frame(_UNKNOWN, junk),
    )


def _connected(command: Command) -> socket.socket:
    host, _, port = command.grpc_url.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=_ANSWER_S)


def _told(command: Command, words: bytes) -> None:
    """Say something, and hear what the server has to say, until it is silent."""
    with _connected(command) as connection:
        try:
            connection.sendall(words)
            connection.settimeout(_ANSWER_S / 10)
            while connection.recv(2**16):
                pass
        except OSError:  # silent, or gone
            pass


@contextmanager
def _stalled(command: Command, num: int, words: Callable[[int], bytes]) -> Iterator[None]:
    with ExitStack() as stack:
        for number in range(num):
            stack.enter_context(_connected(command)).sendall(words(number))
        time.sleep(1)  # the server has read, and computed, what it was told
        yield


def _uploads(command: Command) -> Iterator[None]:
    begun = _START + _headers() + _frame(_DATA, _message(os.urandom(_SENT_BYTES), length=_UPLOAD_BYTES))
    return _stalled(command, _NUM_UPLOADS, lambda _: begun)


def _downloads(command: Command) -> Iterator[None]:
    """Ask for answers of 3 MB, and take 1 KB of each."""
    settings = _frame(_SETTINGS, struct.pack(">HI", _WINDOW_SETTING, _SMALL_WINDOW), stream=0)

    def words(number: int) -> bytes:
        image = new_image(number, wait_s=0, num_bytes=100, answer_hw=_ANSWER_HW)
        request = triton.service_pb2.ModelInferRequest(model_name="depth", raw_input_contents=[image])
        request.inputs.add(name="image", datatype="UINT8", shape=[len(image)])
        return _PREFACE + settings + _headers() + _ended(_message(request.SerializeToString()))

    return _stalled(command, _NUM_DOWNLOADS, words)
