"""The server's Python model processes ("stubs"), watched because it does not watch them itself."""

from __future__ import annotations

import time
from pathlib import Path

_LOOK_EVERY_S = 1.0
_DEAD_FOR_S = 3.0  # where the server takes notice, it collects a dead stub within two


class StubWatch:
    """Notices stubs that died while the server still counts on them.

    tritonserver waits for ever for a stub that dies before it has read its model file. One that dies later is
    neither restarted nor, in the bundled version, a reason to turn unhealthy.

    Args:
        server_pid: Process id of tritonserver.
    """

    def __init__(self, server_pid: int) -> None:
        self._server_pid = str(server_pid)
        self._models: dict[str, str] = {}
        self._dead_since: dict[str, float] = {}
        self._last_look = 0.0

    def dead_models(self) -> set[str]:
        """Return the model files of dead stubs; "unknown" stands for stubs that were never seen alive."""
        now = time.monotonic()
        if now - self._last_look > _LOOK_EVERY_S:
            self._last_look = now
            self._look(now)
        dead = {pid for pid, since in self._dead_since.items() if now - since > _DEAD_FOR_S}
        return {self._models.get(pid, "unknown") for pid in dead}

    def _look(self, now: float) -> None:
        dead_since = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                state, parent = (process / "stat").read_text(errors="replace").rpartition(") ")[2].split()[:2]
                if parent != self._server_pid:
                    continue
                arguments = (process / "cmdline").read_text(errors="replace").split("\0")
            except OSError:
                continue  # it ended meanwhile
            if state == "Z":
                dead_since[process.name] = self._dead_since.get(process.name, now)
            for model in (word for word in arguments if word.endswith("/model.py")):
                self._models[process.name] = model
        self._dead_since = dead_since
