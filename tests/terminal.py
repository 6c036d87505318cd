"""Programs on a terminal, as people see them: what it shows, and Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from real_servers import LONG_S

CTRL_C = b"\x03"
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COMMAND = "from sapiens_client.cli.main import main; main()"


class Terminal:
    """A terminal and the one program on it."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master, self._process = master, process
        self._bytes = b""

    @property
    def text(self) -> str:
        """All that was shown, without colours."""
        return _COLOURS.sub("", self._bytes.decode(errors="replace"))

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until something is shown."""
        while (found := re.search(pattern, self.text)) is None:
            assert self._read(), f"ended without {pattern!r}: {self.text[-2000:]}"
        return found

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def exit_status(self) -> int:
        """Wait for the end."""
        while self._read():
            pass
        return self._process.wait(LONG_S)

    def _read(self) -> bool:
        assert select.select([self._master], [], [], LONG_S)[0], f"nothing is shown: {self.text[-2000:]}"
        try:
            some = os.read(self._master, 1 << 16)
        except OSError:  # nobody has the terminal any more
            return False
        self._bytes += some
        return bool(some)


@contextmanager
def sapiens_on_a_terminal(
    arguments: Sequence[object], folder: Path, environment: Mapping[str, str]
) -> Iterator[Terminal]:
    """Run the command `sapiens` in the foreground of a terminal of its own."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-c", _COMMAND, *map(str, arguments)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", **environment},
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
