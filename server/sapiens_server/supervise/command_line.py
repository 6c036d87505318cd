"""Secrets on the command line of tritonserver, which takes them nowhere else."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_ARGUMENTS_BEGIN = 45  # field of /proc/PID/stat from the state on; 0 for whoever may not know it


def hide(pid: int, name: str, secret: str) -> None:
    """Overwrite a secret in the command line that others see; until then they could read it.

    Does nothing where this process may not write there, as some containers have it.

    Args:
        pid: A child that has read its command line.
        name: What the secret is called there: it follows on "name=".
        secret: ASCII.
    """
    process = Path(f"/proc/{pid}")
    with suppress(OSError):
        words = (process / "cmdline").read_bytes()
        fields = (process / "stat").read_text(errors="replace").rpartition(") ")[2].split()
        start = int(fields[_ARGUMENTS_BEGIN])
        before_secret = f"(?<={re.escape(name)}=){re.escape(secret)}".encode()
        places = [found.start() for found in re.finditer(before_secret, words)]
        with (process / "mem").open("r+b", buffering=0) as memory:
            for place in places if start else ():
                memory.seek(start + place)
                memory.write(b"*" * len(secret))
