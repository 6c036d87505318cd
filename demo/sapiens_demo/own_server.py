"""A server of the page's own, with the demo networks: `sapiens up`, which ends with the page."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sapiens_client.errors import ServerUnavailableError
from sapiens_server.launch import bound_to_this_thread

_PATIENCE_S = 30.0  # while it ends
_ANNOUNCED = re.compile(r"serving at (\S+?)[:,] ")


@contextmanager
def demo_networks() -> Iterator[str]:
    """Serve the demo networks until the end of the `with` block; the first time they are built, a minute.

    What happens is told on standard error.

    Yields:
        The server's address.

    Raises:
        ServerUnavailableError: It does not start; why was told.
    """
    command = [sys.executable, sys.argv[0], "up", "--grpc-port", "0"]
    process = subprocess.Popen(
        bound_to_this_thread(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's Ctrl-C reaches only the page, which ends the server
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = _ANNOUNCED.match(line)
        if found is None:
            raise ServerUnavailableError(
                "a server with the demo networks must start, but ended with exit status "
                f"{process.wait()} for the reason above; say where another is with --url"
            )
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
