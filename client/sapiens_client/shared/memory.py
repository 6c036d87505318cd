"""Large tensors through this machine's shared memory, at servers that are on it and allow it.

A server reads and writes a region from the moment it is told about it until it has forgotten it, which it
refuses while it works on a request. So a region whose request failed is removed here and now, and the server
is asked to forget it until it does.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sapiens_client.connection.address import is_loopback
from sapiens_client.errors import SapiensError
from sapiens_client.steps import Flow, RpcFailure, Sleep, Spawn, Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.servers.replicas import Replica
    from sapiens_client.shared.regions import Region

_LOG = logging.getLogger("sapiens_client")

# Below this a message is as fast.
MIN_BYTES = 2**20
_ALIGNMENT = 64
_TIMEOUT_S = 0.5
_ASK_EVERY_S = 0.25
_MAX_ASKED = 240  # times: a minute
# Statuses of a server that was told to forget a region, and has not: any other is gone with all that it knew.
_HANGS, _WORKS = "DEADLINE_EXCEEDED", "INTERNAL"
_MAX_FORGOTTEN = 2  # times: whoever forgets more often is several servers behind one address


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a request and its reply are in a region.

    Attributes:
        inputs: First byte of every input, by name.
        outputs: First byte and number of bytes of the outputs, by name; those of unknown size are not there.
        num_bytes: Of all together.
    """

    inputs: Mapping[str, int]
    outputs: Mapping[str, tuple[int, int]]
    num_bytes: int


def layout(inputs: Mapping[str, NDArray[Any]], reply_sizes: Mapping[str, int]) -> Layout:
    """Place tensors one after the other.

    Args:
        inputs: By name.
        reply_sizes: Bytes of the outputs whose size is known.
    """
    starts, sizes = {}, {name: array.nbytes for name, array in inputs.items()}
    position = 0
    for name, size in [*sizes.items(), *reply_sizes.items()]:
        starts[name] = position
        position += -(-size // _ALIGNMENT) * _ALIGNMENT
    outputs = {name: (starts[name], size) for name, size in reply_sizes.items()}
    return Layout({name: starts[name] for name in inputs}, outputs, position)


@dataclass
class _Left:
    """A region that is gone here, and not forgotten by a server.

    Attributes:
        name: Of the region.
        replica: The server.
        num_asked: How often it was asked to.
    """

    name: str
    replica: Replica
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
    """The regions of one client and the servers that know them; threads and tasks may share it.

    Args:
        send: Sends a message for a method to a replica, and may take some seconds for it.
        is_wanted: Whether to share memory at all.

    Attributes:
        is_wanted: As told.
    """

    def __init__(self, send: Callable[[Replica, str, bytes, float], Flow[bytes]], *, is_wanted: bool) -> None:
        self.is_wanted = is_wanted
        self._send = send
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._free: list[Region] = []
        self._known_to: dict[Region, dict[Replica, bool]] = {}  # False: the server may not know it
        self._left: list[_Left] = []
        self._refusing: set[Replica] = set()
        self._num_forgotten: Counter[Replica] = Counter()
        self._swept: set[Replica] = set()
        self._is_tidying = self._is_closed = False

    def lease(self, replica: Replica, num_bytes: int, timeout_s: float) -> Flow[Region | None]:
        """Return a region that the replica knows and nobody else uses; whoever gets it gives it back.

        Args:
            replica: The server.
            num_bytes: How large it must be.
            timeout_s: What is left of the call's time.

        Returns:
            None: Send the tensors themselves: the server is elsewhere or does not allow it, or there is no
            such memory.
        """
        is_ours = os.getpid() == self._owner  # a copy of the process would share memory with the original
        if not (self.is_wanted and is_ours and num_bytes >= MIN_BYTES and is_loopback(replica.address)):
            return None
        if replica in self._refusing:
            return None
        yield from self._have_tidied()
        taking = _Taking()
        try:
            yield Work(partial(self._take, taking, num_bytes))
            if taking.region and (yield from self._is_told(replica, taking.region, timeout_s)):
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
            self._left += [_Left(region.name, replica) for replica in self._known_to.pop(region, ())]
        region.remove()

    def forget(self, replica: Replica) -> None:
        """Tell a server anew about every region: it went away, and may come back as another."""
        with self._lock:
            self._refusing.discard(replica)
            self._swept.discard(replica)
            for replicas in self._known_to.values():
                if replica in replicas:
                    replicas[replica] = False

    def was_forgotten(self, replica: Replica) -> None:
        """Tell a server anew about every region: it said that it does not know one; or give up on it."""
        self.forget(replica)
        with self._lock:
            self._num_forgotten[replica] += 1
            if self._num_forgotten[replica] > _MAX_FORGOTTEN:
                self._refusing.add(replica)

    def close(self) -> Flow[None]:
        """Remove all regions, and have those forgotten that no server works with; the next client sweeps."""
        with self._lock:
            self._is_closed = True
            free, self._free = self._free, []
        for region in free:
            self.drop(region)
        hanging: set[Replica] = set()
        for left in list(self._left):
            if left.replica not in hanging and (yield from self._told_to_forget(left)) == _HANGS:
                hanging.add(left.replica)

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

    def _is_told(self, replica: Replica, region: Region, timeout_s: float) -> Flow[bool]:
        """Tell a replica about a region that it does not know yet, and return whether it knows it now."""
        with self._lock:
            if self._known_to[region].get(replica):
                return True
            self._known_to[region][replica] = False  # the answer may get lost
        from sapiens_client.wire import messages

        message = messages.encoded_registration(region.name, region.size)
        try:
            yield from self._send(replica, "SystemSharedMemoryRegister", message, min(timeout_s, _TIMEOUT_S))
        except RpcFailure as failure:
            if failure.code != "ALREADY_EXISTS":  # told before it was thought to have gone away
                _LOG.debug("no shared memory with %s: %s", replica.address, failure)
                self._refusing.add(replica)  # until it goes away
                return False
        with self._lock:
            self._known_to[region][replica] = True
            is_first = replica not in self._swept
            self._swept.add(replica)
        if is_first:
            yield Spawn(self._sweep(replica))
        return True

    def _sweep(self, replica: Replica) -> Flow[None]:
        """Remove what processes that were killed have left here and at the server."""
        from sapiens_client.shared import regions
        from sapiens_client.wire import messages

        yield Work(regions.remove_orphans)
        with suppress(RpcFailure):
            reply = yield from self._send(replica, "SystemSharedMemoryStatus", b"", _TIMEOUT_S)
            for name in messages.region_names(reply):
                if (yield Work(partial(regions.is_orphan, name))):
                    yield from self._told_to_forget(_Left(name, replica))

    def _have_tidied(self) -> Flow[None]:
        with self._lock:
            is_due = bool(self._left) and not self._is_tidying
            self._is_tidying = self._is_tidying or is_due
        if is_due:
            yield Spawn(self._tidy())

    def _tidy(self) -> Flow[None]:
        """Ask servers to forget regions until they do; while they work on a request they do not."""
        try:
            while self._left:
                for left in list(self._left):
                    yield from self._ask_to_forget(left)
                yield Sleep(_ASK_EVERY_S)
        finally:
            self._is_tidying = False

    def _ask_to_forget(self, left: _Left) -> Flow[None]:
        left.num_asked += 1
        if (yield from self._told_to_forget(left)) not in (_HANGS, _WORKS) or left.num_asked >= _MAX_ASKED:
            with self._lock, suppress(ValueError):
                self._left.remove(left)

    def _told_to_forget(self, left: _Left) -> Flow[str | None]:
        """Tell a server to forget a region; return the status with which it refuses, None where it does."""
        from sapiens_client.wire import messages

        message = messages.encoded_deregistration(left.name)
        try:
            yield from self._send(left.replica, "SystemSharedMemoryUnregister", message, _TIMEOUT_S)
        except RpcFailure as failure:
            return failure.code
        except SapiensError:  # of a token, which later there may be
            return _HANGS
        return None
