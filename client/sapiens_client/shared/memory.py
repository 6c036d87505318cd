"""Large tensors through this machine's shared memory, at servers that are on it and allow it.

A server reads and writes a region from the moment it is registered there until it is unregistered, which the
server refuses while it works on a request. So a region whose request failed is removed here and now, and the
server is asked to unregister it until it does.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sapiens_client.connection.address import is_loopback
from sapiens_client.errors import SapiensError
from sapiens_client.steps import Flow, RpcFailure, Sleep, Work, spawned

if TYPE_CHECKING:
    from sapiens_client.shared.regions import Region
    from sapiens_client.steps import Endpoint

_LOG = logging.getLogger("sapiens_client")

# Below this a message is as fast.
MIN_BYTES = 2**20
_TIMEOUT_S = 0.5
_ASK_EVERY_S = 0.25
_MAX_ASKED = 240  # times: a minute
# A server holds the regions of a request for a moment after its answer.
_ASK_AT_END_EVERY_S = 0.02
_MAX_ASKED_AT_END = 10
# Statuses of a server that has not unregistered a region: any other is gone with all that it knew.
_HANGS, _WORKS = "DEADLINE_EXCEEDED", "INTERNAL"
_MAX_UNKNOWN = 2  # times: whoever does not know more often is several servers behind one address


@dataclass
class _Left:
    """A region that is gone here, and still registered at a server.

    Attributes:
        name: Of the region.
        endpoint: The server.
        num_asked: How often it was asked to unregister it.
    """

    name: str
    endpoint: Endpoint
    num_asked: int = 0


@dataclass
class _Taking:
    """A region that is being taken, maybe on another thread.

    Attributes:
        region: What was taken so far.
        is_abandoned: Nobody waits for it any more.
    """

    region: Region | None = None
    is_abandoned: bool = False


class SharedMemory:
    """The regions of one client and where they are registered; threads and tasks may share it.

    Args:
        send: Sends a message for an RPC to an endpoint, and may take some seconds for it.
        is_wanted: Whether to share memory at all.

    Attributes:
        is_wanted: As passed.
    """

    def __init__(
        self, send: Callable[[Endpoint, str, bytes, float], Flow[bytes]], *, is_wanted: bool
    ) -> None:
        self.is_wanted = is_wanted
        self._send = send
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._free: list[Region] = []
        self._known_to: dict[Region, dict[Endpoint, bool]] = {}  # False: the server may not know it
        self._left: list[_Left] = []
        self._refusing: set[Endpoint] = set()
        self._num_unknown: Counter[Endpoint] = Counter()
        self._swept: set[Endpoint] = set()
        self._is_tidying = self._is_closed = False

    def lease(self, endpoint: Endpoint, num_bytes: int, timeout_s: float) -> Flow[Region | None]:
        """Return a region that is registered there and nobody else uses; whoever gets it gives it back.

        Args:
            endpoint: The server.
            num_bytes: How large it must be.
            timeout_s: What is left of the call's time.

        Returns:
            None: Send the tensors themselves: the server is elsewhere or does not allow it, or there is no
            such memory.
        """
        is_ours = os.getpid() == self._owner  # a copy of the process would share memory with the original
        if not (self.is_wanted and is_ours and num_bytes >= MIN_BYTES and is_loopback(endpoint.address)):
            return None
        if endpoint in self._refusing:
            return None
        yield from self._have_tidied()
        taking = _Taking()
        try:
            yield Work(partial(self._take, taking, num_bytes))
            if taking.region and (yield from self._registered(endpoint, taking.region, timeout_s)):
                return taking.region
        except BaseException:
            self._abandon(taking)
            raise
        self._abandon(taking)
        return None

    def give_back(self, region: Region) -> None:
        """Keep a region for later requests: its request was answered."""
        with self._lock:
            if not self._is_closed:
                self._free.append(region)
                return
        self.drop(region)

    def drop(self, region: Region) -> None:
        """Remove a region: its request was not answered, and a server may still work on it."""
        with self._lock:
            self._left += [_Left(region.name, endpoint) for endpoint in self._known_to.pop(region, ())]
        region.remove()

    def server_gone(self, endpoint: Endpoint) -> None:
        """Register every region anew: the server went away, and may come back as another."""
        with self._lock:
            self._refusing.discard(endpoint)
            self._swept.discard(endpoint)
            for endpoints in self._known_to.values():
                if endpoint in endpoints:
                    endpoints[endpoint] = False

    def region_unknown(self, endpoint: Endpoint) -> None:
        """Register every region anew: the server said that it does not know one; or give up on it."""
        self.server_gone(endpoint)
        with self._lock:
            self._num_unknown[endpoint] += 1
            if self._num_unknown[endpoint] > _MAX_UNKNOWN:
                self._refusing.add(endpoint)

    def close(self) -> Flow[None]:
        """Remove all regions, unregister those that no server works with; the next client sweeps."""
        with self._lock:
            self._is_closed = True
            free, self._free = self._free, []
        for region in free:
            self.drop(region)
        asked = list(self._left)
        for _ in range(_MAX_ASKED_AT_END):
            asked = yield from self._unregistered_at_end(asked)
            if not asked:
                return
            yield Sleep(_ASK_AT_END_EVERY_S)

    def _unregistered_at_end(self, asked: Sequence[_Left]) -> Flow[list[_Left]]:
        """Ask to unregister each region once, and return those that servers still work with."""
        hanging: set[Endpoint] = set()
        working = []
        for left in asked:
            status = None if left.endpoint in hanging else (yield from self._unregistered(left))
            if status == _HANGS:
                hanging.add(left.endpoint)
            elif status == _WORKS:
                working.append(left)
        return working

    def _take(self, taking: _Taking, num_bytes: int) -> None:
        region = self._taken(num_bytes)
        with self._lock:
            taking.region = region
        if taking.is_abandoned:
            self._abandon(taking)

    def _abandon(self, taking: _Taking) -> None:
        with self._lock:
            taking.is_abandoned = True
            region, taking.region = taking.region, None
        if region is not None:
            self.drop(region)

    def _taken(self, num_bytes: int) -> Region | None:
        try:
            from sapiens_client.shared.regions import Region
        except ImportError:  # systems without file locks of this kind
            return None
        with self._lock:
            fitting = [region for region in self._free if region.size >= num_bytes]
            found = min(fitting or self._free, key=lambda region: region.size, default=None)
            if found is not None:
                self._free.remove(found)
        if found is not None and found.size >= num_bytes:
            return found
        if found is not None:  # it makes room: there are never more regions than requests at a time
            self.drop(found)
        try:
            region = Region.made(num_bytes)
        except OSError as error:
            _LOG.debug("no shared memory of %d bytes: %s", num_bytes, error)
            return None
        with self._lock:
            self._known_to[region] = {}
        return region

    def _registered(self, endpoint: Endpoint, region: Region, timeout_s: float) -> Flow[bool]:
        """Register a region where it is not yet, and return whether it is now."""
        with self._lock:
            if self._known_to[region].get(endpoint):
                return True
            self._known_to[region][endpoint] = False  # the answer may get lost
        from sapiens_client.wire import messages

        message = messages.encoded_registration(region.name, region.size)
        try:
            yield from self._send(endpoint, "SystemSharedMemoryRegister", message, min(timeout_s, _TIMEOUT_S))
        except RpcFailure as failure:
            if failure.code != "ALREADY_EXISTS":  # registered before the server was thought to have gone away
                _LOG.debug("no shared memory with %s: %s", endpoint.address, failure)
                if failure.code != _HANGS:  # busy for a moment is no refusal
                    self._refusing.add(endpoint)  # until it goes away
                return False
        with self._lock:
            self._known_to[region][endpoint] = True
            is_first = endpoint not in self._swept
            self._swept.add(endpoint)
        if is_first:
            yield from spawned(self._sweep(endpoint), partial(self._swept.discard, endpoint))
        return True

    def _sweep(self, endpoint: Endpoint) -> Flow[None]:
        """Remove what processes that were killed have left here and at the server."""
        from sapiens_client.shared import regions
        from sapiens_client.wire import messages

        yield Work(regions.remove_orphans)
        with suppress(RpcFailure):
            reply = yield from self._send(endpoint, "SystemSharedMemoryStatus", b"", _TIMEOUT_S)
            for name in messages.region_names(reply):
                if (yield Work(partial(regions.is_orphan, name))):
                    yield from self._unregistered(_Left(name, endpoint))

    def _have_tidied(self) -> Flow[None]:
        with self._lock:
            is_due = bool(self._left) and not self._is_tidying
            self._is_tidying = self._is_tidying or is_due
        if is_due:
            yield from spawned(self._tidy(), partial(setattr, self, "_is_tidying", False))

    def _tidy(self) -> Flow[None]:
        """Ask servers to unregister regions until they do; while they work on a request they do not."""
        try:
            while self._left:
                for left in list(self._left):
                    yield from self._ask_to_unregister(left)
                yield Sleep(_ASK_EVERY_S)
        finally:
            self._is_tidying = False

    def _ask_to_unregister(self, left: _Left) -> Flow[None]:
        left.num_asked += 1
        if (yield from self._unregistered(left)) not in (_HANGS, _WORKS) or left.num_asked >= _MAX_ASKED:
            with self._lock, suppress(ValueError):
                self._left.remove(left)

    def _unregistered(self, left: _Left) -> Flow[str | None]:
        """Have a server unregister a region; return the status with which it refuses, None where it does."""
        from sapiens_client.wire import messages

        message = messages.encoded_deregistration(left.name)
        try:
            yield from self._send(left.endpoint, "SystemSharedMemoryUnregister", message, _TIMEOUT_S)
        except RpcFailure as failure:
            return failure.code
        except SapiensError:  # of a token, which later there may be
            return _HANGS
        return None
