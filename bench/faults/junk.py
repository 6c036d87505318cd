"""Images that are none, or far too large: each is refused in a moment, and nobody else waits."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import numpy as np
from figures import Figure, at_most, exactly, told
from fuzz import METHOD, STEPS, memory_mb, processes_mb, request_for, served_steps, status
from load import Sizes
from PIL import Image
from supervised import Command

_TRIES = 25
_REFUSED_S = 0.05
_GROWTH_MB = 10.0  # each process of a model grows once, by what an image takes
_NEIGHBOURS, _PAUSE_S = 2, 0.1
_MAX_SLOWER = 1.5  # of the 99th of 100 calls, which few decide


def junk(sizes: Sizes) -> list[Figure]:
    """Ask about each again and again, while others ask about good images."""
    whole = _encoded("JPEG", 600, 800)
    with served_steps() as command, grpc.insecure_channel(command.grpc_url) as channel:
        ask = partial(status, channel.unary_unary(METHOD))
        good = request_for(STEPS[0], whole).SerializeToString()
        neighbour = partial(ask, good)
        messages = {
            name: request_for(STEPS[0], image).SerializeToString() for name, image in _images(whole).items()
        }
        with _Neighbours(neighbour) as quiet:
            time.sleep(sizes.seconds)
        with _Neighbours(neighbour):
            _asked(ask, messages)  # what one more call at a time takes of memory is no leak
        before_mb = _memories_mb(command)
        with _Neighbours(neighbour) as disturbed:
            took_s, statuses = _asked(ask, messages)
        grown_mb = [now - before for now, before in zip(_memories_mb(command), before_mb, strict=True)]
    slowest = max(took_s, key=lambda name: took_s[name])
    slower = disturbed.p99_s() / quiet.p99_s()
    return [
        told("kinds of junk", len(took_s)),
        exactly("their statuses", sorted(statuses), ["INVALID_ARGUMENT"]),
        at_most(f"best try of the slowest to be refused, {slowest}", took_s[slowest], _REFUSED_S, "s"),
        at_most("memory of the models' processes, beyond that before", grown_mb[0], _GROWTH_MB, "MB"),
        told("memory of all, beyond that before", grown_mb[1], "MB"),
        exactly("failed calls of others", quiet.num_failed + disturbed.num_failed, 0),
        at_most("99 of 100 calls of others, of those before", slower, _MAX_SLOWER, "x"),
    ]


def _memories_mb(command: Command) -> tuple[float, float]:
    """Return what the processes of models have for themselves, and what they and the server have."""
    return processes_mb(command), memory_mb(command)


def _asked(ask: Callable[[bytes], str], messages: Mapping[str, bytes]) -> tuple[dict[str, float], set[str]]:
    """Return how long each takes at best, and how they all end."""
    took_s, statuses = {}, set()
    for name, message in messages.items():
        durations = []
        for _ in range(_TRIES):
            began_s = time.monotonic()
            statuses.add(ask(message))
            durations.append(time.monotonic() - began_s)
        took_s[name] = min(durations)  # what it takes where nothing else is done
    return took_s, statuses


class _Neighbours:
    """Threads that ask about a good image again and again, with pauses that leave the server room."""

    def __init__(self, ask: partial[str]) -> None:
        self._ask = ask
        self._is_over = threading.Event()
        self._threads = ThreadPoolExecutor(_NEIGHBOURS)
        self._durations: list[float] = []
        self.num_failed = 0

    def __enter__(self) -> _Neighbours:
        self._work = [self._threads.submit(self._call) for _ in range(_NEIGHBOURS)]
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()
        self._threads.shutdown()
        self.num_failed = sum(each.result() for each in self._work)

    def p99_s(self) -> float:
        """Return within what 99 of 100 calls were answered."""
        return float(np.quantile(self._durations, 0.99))

    def _call(self) -> int:
        num_failed = 0
        while not self._is_over.is_set():
            began_s = time.monotonic()
            num_failed += self._ask() != "OK"
            self._durations.append(time.monotonic() - began_s)
            self._is_over.wait(_PAUSE_S)
        return num_failed


def _images(whole: bytes) -> Mapping[str, bytes]:
    png = _encoded("PNG", 60, 80)
    return {
        "nothing": b"",
        "text": b"this is no image\n" * 100,
        "junk": np.random.default_rng(0).bytes(300_000),
        "half a JPEG": whole[: len(whole) // 2],
        "the header of a JPEG": whole[:200],
        "half a PNG": png[: len(png) // 2],
        "a PNG of 12,000 x 12,000 that is there": _black_png(12_000),
        "a PNG of 40,000 x 40,000 that is not": _black_png(40_000, is_whole=False),
        "a PNG that says to be larger": png[:16] + struct.pack(">II", 800, 600) + png[24:],
        "a GIF": _encoded("GIF", 60, 80),
        "half a WebP": _encoded("WEBP", 60, 80)[:100],
        "a BMP of 30,000 x 30,000": _large_bmp(30_000),
    }


def _encoded(name: str, height: int, width: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _black_png(side: int, *, is_whole: bool = True) -> bytes:
    """Return a file of some KB that takes 3 bytes a pixel once it is decoded."""
    row = bytes(1 + 3 * side)
    pack = zlib.compressobj(9)
    packed = b"".join(pack.compress(row) for _ in range(side if is_whole else 1)) + pack.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _large_bmp(side: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 300, 0, 0, 54) + header + bytes(300)
