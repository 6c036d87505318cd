"""Runs a server, watches it, starts it again when it fails, and ends it without failing anybody."""

from __future__ import annotations

import secrets
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from sapiens_server.addresses import free_addresses
from sapiens_server.errors import ServerDiedError, ServerError
from sapiens_server.installation import find_tritonserver, release_of
from sapiens_server.server import OnLog, RunningServer, ServerOptions, serve
from sapiens_server.supervise.access import Access, check_access, private_arguments
from sapiens_server.supervise.api import KEY_HEADER, UNANSWERED, ServerApi
from sapiens_server.supervise.command_line import hide
from sapiens_server.supervise.drain import Drain
from sapiens_server.supervise.health import Cause, Health
from sapiens_server.supervise.monitor import Monitor, Verdict
from sapiens_server.supervise.orphans import adopt_orphans, collect_orphans
from sapiens_server.supervise.signals import Signals

_POLL_S = 0.05
_COLLECT_EVERY_S = 1.0
_LOOPBACK = "127.0.0.1"
_MAX_RESTARTS = 5
_WITHIN_S = 300.0
_PARTIAL: tuple[Cause, ...] = ("model_process", "canary", "shared_memory")  # others may yet be served
_LEAVE_S = 4.0  # for balancers to notice, and for work under way


@dataclass(frozen=True)
class Wanted:
    """The server to keep running, in the words of `serve`."""

    repository: str
    host: str = _LOOPBACK
    grpc_port: int = 8001
    http_port: int | None = None
    metrics_port: int | None = None
    options: ServerOptions = field(default_factory=ServerOptions)


@dataclass(frozen=True)
class _Running:
    server: RunningServer
    api: ServerApi
    monitor: Monitor


class Supervisor:
    """Keeps one server running until a signal; belongs to the main thread.

    Args:
        wanted: The server.
        access: Who may ask it for what.
        drain_s: How long it goes on serving after SIGTERM, at most.
        on_log: Called with each line of its output and of the supervisor's own, on several threads.

    Attributes:
        health: How it is.
        signals: What asked it to end.
    """

    def __init__(self, wanted: Wanted, access: Access, drain_s: float, on_log: OnLog) -> None:
        self.health = Health()
        self.signals = Signals()
        self._wanted = wanted
        self._access = access
        self._drain_s = drain_s
        self._on_log = on_log
        self._restarts: deque[float] = deque()
        self._collected_s = 0.0

    def run(self, announce: Callable[[RunningServer], object]) -> None:
        """Serve until a signal asks for the end. SIGTERM drains the server first, SIGINT does not.

        Args:
            announce: Called with the server once it has loaded its models for the first time.

        Raises:
            ServerError: As `serve` does: the server cannot be started.
            ServerDiedError: It failed too often to be started again, or ended while it was drained.
            KeyboardInterrupt: It was interrupted before it served, or for the second time.
        """
        check_access(self._access, self._wanted.host, self._wanted.options.model_control)
        adopt_orphans()
        running = self._started()
        try:
            announce(running.server)
            while not self.signals.numbers:
                if verdict := self._verdict(running):
                    running = self._restarted(running, verdict)
                time.sleep(_POLL_S)
            self._end(running)
        finally:
            running.monitor.stop()
            running.server.kill()

    def _started(self, models: tuple[str, ...] = ()) -> _Running:
        """Start the server at its addresses, which are chosen the first time."""
        wanted = self._wanted
        key = self._access.admin_key or secrets.token_hex()
        private = free_addresses(_LOOPBACK, 0, 0, 0)
        has_http, has_metrics = wanted.http_port is not None, wanted.metrics_port is not None
        arguments = (
            *self._access.arguments(
                wanted.options.model_control,
                key,
                has_http=has_http,
                release=release_of(find_tritonserver()),
            ),
            *private_arguments(private, key, http=not has_http, metrics=not has_metrics),
            *(f"--load-model={name}" for name in models),
            *wanted.options.arguments,
        )
        with self.signals.raised():
            server = serve(
                wanted.repository,
                host=wanted.host,
                grpc_port=wanted.grpc_port,
                http_port=wanted.http_port,
                metrics_port=wanted.metrics_port,
                on_log=self._on_log,
                options=replace(wanted.options, arguments=arguments),
            )
        self._wanted = replace(
            wanted,
            grpc_port=_port(server.grpc_url),
            http_port=_port(server.http_url) if server.http_url else None,
            metrics_port=_port(server.metrics_url) if server.metrics_url else None,
        )
        hide(server.pid, KEY_HEADER, key)
        api = ServerApi(server.http_url or str(private.http), server.metrics_url or str(private.metrics), key)
        monitor = Monitor(api, server.pid, self.health)
        self.health.enter("serving")
        monitor.start()
        return _Running(server, api, monitor)

    def _verdict(self, running: _Running) -> Verdict | None:
        """Return why the server must be restarted; None: it need not be."""
        if time.monotonic() - self._collected_s > _COLLECT_EVERY_S:
            self._collected_s = time.monotonic()
            collect_orphans(running.server.pid)
            running.server.hide_regions()
        try:
            dead = running.server.look()
        except ServerDiedError as error:
            return Verdict("died", str(error))
        if dead:
            return Verdict("model_process", f"the process of {', '.join(sorted(dead))} has died")
        return running.monitor.verdict

    def _restarted(self, running: _Running, verdict: Verdict) -> _Running:
        """Kill what is left of the server and start another one, unless that happens too often."""
        running.monitor.stop()
        self.health.enter("restarting")
        self.health.restarts(verdict.cause)
        self._on_log(f"warning: restarting tritonserver: {verdict.why}")
        if verdict.cause in _PARTIAL:
            with suppress(ServerDiedError):
                self._drain(running, _LEAVE_S)
        running.server.kill()  # a server with dead processes would take its whole exit timeout to stop
        is_explicit = self._wanted.options.model_control == "explicit"
        models = running.monitor.served if is_explicit else ()
        why = verdict.why
        while True:
            self._pause(why)
            try:
                return self._started(models)
            except (ServerError, OSError) as error:  # such as a full /dev/shm
                why = str(error)
                self._on_log(f"warning: tritonserver could not be started again: {why}")

    def _pause(self, why: str) -> None:
        """Wait before a restart: not at all before the first, then longer each time.

        Raises:
            ServerDiedError: There were too many.
        """
        now = time.monotonic()
        while self._restarts and now - self._restarts[0] > _WITHIN_S:
            self._restarts.popleft()
        if len(self._restarts) >= _MAX_RESTARTS:
            raise ServerDiedError(
                f"tritonserver must stay up after at most {_MAX_RESTARTS} restarts within {_WITHIN_S:g} s, "
                f"but failed again; correct this: {why}"
            )
        pause_s = 2.0 ** (len(self._restarts) - 1) if self._restarts else 0.0
        self._restarts.append(now)
        with self.signals.raised():
            time.sleep(pause_s)

    def _end(self, running: _Running) -> None:
        running.monitor.stop()
        self.health.enter("draining")
        if self.signals.numbers[0] == signal.SIGTERM:
            self._drain(running, self._drain_s)
        running.server.stop()

    def _drain(self, running: _Running, limit_s: float) -> None:
        """Wait until others have left the server and it has done its work.

        Raises:
            ServerDiedError: It ended meanwhile.
        """
        drain = Drain(limit_s)
        while not drain.is_over():
            running.server.look()
            with suppress(*UNANSWERED):  # it may be too busy to tell
                drain.note(running.api.counts())
            time.sleep(_POLL_S)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
