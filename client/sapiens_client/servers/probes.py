"""Asks replicas whether they are ready: unhealthy ones again and again, in the background."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sapiens_client.errors import SapiensError
from sapiens_client.steps import CLOSED, Flow, RpcFailure, Sleep, spawned

if TYPE_CHECKING:
    from sapiens_client.servers.known import Known
    from sapiens_client.servers.replicas import Replica, Replicas
    from sapiens_client.servers.sender import Sender

READY_METHOD = "ServerReady"
PROBE_EVERY_S = 0.25
_PROBE_TIMEOUT_S = 0.5
_YES = b"\x08\x01"  # ServerReadyResponse { ready: true }


class Probes:
    """The probes of one client; threads and tasks may share it.

    Args:
        replicas: What is asked, and told how they fare.
        sender: Asks them.
        known: Told which of them went away.
    """

    def __init__(self, replicas: Replicas, sender: Sender, known: Known) -> None:
        self._replicas = replicas
        self._sender = sender
        self._known = known

    def says_ready(self, replica: Replica, timeout_s: float) -> Flow[bool]:
        """Ask a replica once; it may fail with an RpcFailure, or a SapiensError of a token."""
        return (yield from self._sender.sent(replica.endpoint, READY_METHOD, b"", timeout_s)) == _YES

    def is_ready(self, replica: Replica, left_s: float = _PROBE_TIMEOUT_S) -> Flow[bool]:
        """Ask a replica once; whatever fails means no."""
        try:
            return (yield from self.says_ready(replica, min(_PROBE_TIMEOUT_S, left_s)))
        except (RpcFailure, SapiensError):
            return False

    def watch(self) -> Flow[None]:
        """Have all replicas asked that are unhealthy, until they are ready."""
        for replica in self._replicas.listed():  # once each: where the client is closed, probes end at once
            if self._replicas.to_probe(replica):
                yield from spawned(self._probe(replica), partial(setattr, replica, "is_probed", False))

    def look_after(self, replica: Replica) -> Flow[None]:
        """Have a replica asked that has kept somebody waiting."""
        if self._replicas.to_look_after(replica):
            yield from spawned(self._look_after(replica), partial(setattr, replica, "is_doubted", False))

    def _probe(self, replica: Replica) -> Flow[None]:
        """Ask a replica until it is ready, or nobody wants to know any more."""
        try:
            while self._replicas.is_wanted(replica):
                yield Sleep(PROBE_EVERY_S)
                yield from self._note_if_ready(replica)
        finally:
            replica.is_probed = False

    def _note_if_ready(self, replica: Replica) -> Flow[None]:
        try:
            if (yield from self.says_ready(replica, _PROBE_TIMEOUT_S)):
                self._replicas.says_ready(replica)
        except RpcFailure as failure:
            if failure.code == CLOSED:
                raise
        except SapiensError:  # of a token, which the next time there may be
            return

    def _look_after(self, replica: Replica) -> Flow[None]:
        """Take a replica that has kept somebody waiting for unhealthy, unless it says that it is ready."""
        is_ready = False
        try:
            is_ready = yield from self.is_ready(replica)
        finally:
            replica.is_doubted = False
        if not is_ready:
            self._replicas.mark_unhealthy(replica)
            self._known.server_gone(replica.endpoint)
