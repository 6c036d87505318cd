"""What tritonserver writes: kept, handed on, and read for the reasons of a failure."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import IO

_KEPT_LINES = 2000
# Level, file and line, message.
SERVER_LINE = re.compile(r'([IWEF])\d{4} \S+ \d+ ([\w.]+:\d+)\] +"?(.*?)"?$')
_TABLE_LINE = re.compile(r"\s*$|\||\+-")
_NO_GPU = re.compile(
    r"CudaDriverHelper has not been initialized|CUDA driver version is insufficient|no pinned memory pool"
)
# Reasons that the server does not write as errors of its own; the text that matters follows.
_REASON = re.compile(r"\[libprotobuf ERROR [^]]*\] |Failed to preinitialize Python stub: ")
# How the server ends: with a reason, where it has not told any before.
_LAST_WORDS = re.compile(r"error: creating server: (?:[\w ]+ - )?")
_TOLD_AGAIN = "ERROR: Failed to create instance"  # a later line says the same and names the model
_CONSEQUENCE = " which has no loaded version"  # of another model's failure
# The text behind the last frame is the reason, of Python and of TorchScript, which has two kinds of frames.
_TRACEBACK = re.compile(r"Traceback(?: of TorchScript)?(?:, [a-z]+ code)? \(most recent call last\)")
_STATUS = re.compile(r"\b(?:Internal|Invalid argument): ")


class ServerLog:
    """Reads a server's output on a thread of its own, so that the server never waits for a reader.

    Args:
        stream: The server's output; closed at its end.
        on_line: Called with each line on that thread; should return soon. Once it raises, no more.

    Attributes:
        num_lines: How many lines there were, also those that are not kept.
    """

    def __init__(self, stream: IO[str], on_line: Callable[[str], object] | None) -> None:
        self.num_lines = 0
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._on_line = on_line
        self._thread = threading.Thread(
            target=self._read, args=(stream,), name="tritonserver-log", daemon=True
        )
        self._thread.start()

    def lines(self) -> list[str]:
        """Return the last lines, at most 2,000."""
        return list(self._lines)

    def add(self, line: str) -> None:
        """Put a line of our own into the log."""
        self._lines.append(line)
        self.num_lines += 1
        if self._on_line is not None:
            self._on_line(line)

    def finish(self, *, timeout_s: float) -> None:
        """Wait for the end of the output."""
        self._thread.join(timeout_s)

    def _read(self, stream: IO[str]) -> None:
        with stream:
            try:
                for line in stream:
                    self.add(line.rstrip("\n"))
            finally:
                self._lines.extend(line.rstrip("\n") for line in stream)


def is_noteworthy(line: str) -> bool:
    """Tell warnings, errors and what Python models print from the server's routine messages and tables."""
    server_line = SERVER_LINE.match(line)
    if server_line is None:
        return _TABLE_LINE.match(line) is None
    return server_line[1] != "I" and _NO_GPU.search(line) is None


def failure_reasons(lines: Iterable[str]) -> list[str]:
    """Extract why a start failed: one readable line per cause, without failures that follow from others."""
    kept = list(lines)
    reasons = dict.fromkeys(reason for line in kept if (reason := _reason(line)))
    last_words = [_readable(line[end.end() :]) for line in kept if (end := _LAST_WORDS.match(line))]
    return [reason for reason in reasons if _CONSEQUENCE not in reason] or list(reasons) or last_words


def _reason(line: str) -> str | None:
    server_line = SERVER_LINE.match(line)
    message = server_line[3] if server_line else line
    if announced := _REASON.match(message):
        return _readable(message[announced.end() :])
    is_error = server_line is not None and server_line[1] in "EF" and is_noteworthy(line)
    return _readable(message) if is_error and not message.startswith(_TOLD_AGAIN) else None


def _readable(message: str) -> str:
    """Make one line of a message with escaped line breaks: the error and the innermost place in the code."""
    error, _, places = message.replace("\\n", "\n").replace('\\"', '"').partition("\n\nAt:\n")
    if traceback := _TRACEBACK.search(error):
        error = error[: traceback.start()] + error.strip().splitlines()[-1]
    place = "".join(f" (at {line})" for line in places.strip().splitlines()[:1])
    return " ".join(_STATUS.sub("", error, count=1).split()) + place
