"""Which replicas there are, how they fare, and which one gets the next request. Does no input or output."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sapiens_client.steps import Endpoint

if TYPE_CHECKING:
    from sapiens_client.connection.address import Target

_FIRST_REST_S = 1.0
_MAX_REST_S = 60.0
_IDLE_AFTER_S = 5.0


@dataclass(eq=False)
class Replica:
    """One server, and what the client knows about it.

    Attributes:
        endpoint: Where it is.
        num_calls: Requests of this client that are under way there.
        has_answered: Whether it ever did.
        is_unhealthy: Whether it failed and has not said since that it is ready.
        is_probed: Whether somebody asks it again and again.
        is_doubted: Whether it has kept somebody waiting and is being asked whether it is still there.
        is_listed: Whether it is still among the addresses.
        num_rests: How often in a row it had to rest although it said that it was ready.
        rests_until_s: Until when it is not even asked, on the clock of `time.monotonic`.
    """

    endpoint: Endpoint
    num_calls: int = 0
    has_answered: bool = False
    is_unhealthy: bool = False
    is_probed: bool = False
    is_doubted: bool = False
    is_listed: bool = True
    num_rests: int = 0
    rests_until_s: float = 0.0

    @property
    def address(self) -> str:
        """What gRPC connects to."""
        return self.endpoint.address


class Replicas:
    """The replicas of one client; threads and tasks may share it.

    Args:
        targets: Where servers are. Those behind names are added once their addresses are known.
    """

    def __init__(self, targets: Collection[Target]) -> None:
        self._lock = threading.Lock()
        self._all: dict[str, Replica] = {}
        self._of_target: dict[Target, tuple[Replica, ...]] = {}
        self._left: list[Replica] = []
        self._waiting: list[Future[None]] = []
        self._has_answered = False  # one of those that are gone
        self._turn = 0
        self._used_s = 0.0
        for target in targets:
            if not target.is_resolved:
                self.set_addresses(target, {target.url: None})

    def set_addresses(self, target: Target, addresses: Mapping[str, str | None]) -> None:
        """Replace the replicas of a target.

        Args:
            target: Which one.
            addresses: What gRPC connects to, with the name that certificates there must bear.
        """
        with self._lock:
            self._of_target[target] = tuple(
                self._all.get(address) or Replica(Endpoint(address, name))
                for address, name in addresses.items()
            )
            listed = {each.address: each for some in self._of_target.values() for each in some}
            for replica in self._all.values():
                if replica.address not in listed:
                    replica.is_listed = False
                    self._has_answered = self._has_answered or replica.has_answered
                    self._left.append(replica)
            self._all = listed
            for replica in listed.values():
                self._call(replica)

    def listed(self) -> list[Replica]:
        """Return all replicas, those in use first."""
        with self._lock:
            return sorted(self._all.values(), key=lambda replica: replica.is_unhealthy)

    def take(self, tried: Collection[Replica]) -> Replica:
        """Choose the replica for a request, and count the request; there must be some replica.

        In use and not tried yet come first, then in use, then not tried yet; among these the one with the
        fewest requests under way, and among equals the next in turn.
        """
        with self._lock:
            self._used_s = time.monotonic()
            self._turn = (self._turn + 1) % len(self._all)
            everyone = list(self._all.values())
            in_turn = everyone[self._turn :] + everyone[: self._turn]
            chosen = min(in_turn, key=lambda each: (each.is_unhealthy, each in tried, each.num_calls))
            chosen.num_calls += 1
            return chosen

    def give_back(self, replica: Replica) -> None:
        """Count a request as ended."""
        with self._lock:
            replica.num_calls -= 1
            self._used_s = time.monotonic()

    def answered(self, replica: Replica, *, was_unhealthy: bool) -> None:
        """Note that a replica works.

        Args:
            replica: Which one.
            was_unhealthy: Whether it was so before the request was sent; one that is leaving still answers
                what it had before.
        """
        with self._lock:
            replica.has_answered = True
            replica.is_unhealthy = replica.is_unhealthy and not was_unhealthy
            self._call(replica)

    def mark_unhealthy(self, replica: Replica, *, to_rest: bool = False) -> None:
        """Choose a replica only where there is no other, until it says that it is ready.

        Args:
            replica: Which one.
            to_rest: Do not even ask it for a second, and for twice as long each further time.
        """
        with self._lock:
            now_s = time.monotonic()
            if to_rest and not replica.is_unhealthy:
                if now_s - replica.rests_until_s > _MAX_REST_S:
                    replica.num_rests = 0
                replica.rests_until_s = now_s + min(_FIRST_REST_S * 2**replica.num_rests, _MAX_REST_S)
                replica.num_rests += 1
            replica.is_unhealthy = True

    def says_ready(self, replica: Replica) -> None:
        """Take a replica into use again that says that it is ready, unless it has to rest."""
        with self._lock:
            replica.has_answered = True
            replica.is_unhealthy = replica.is_unhealthy and replica.rests_until_s > time.monotonic()
            self._call(replica)

    def _call(self, replica: Replica) -> None:
        """Tell those who wait for a replica that one is back; who holds the lock calls this."""
        if not replica.is_unhealthy:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                if each.set_running_or_notify_cancel():
                    each.set_result(None)

    def has_other(self, tried: Collection[Replica]) -> bool:
        """Return whether some replica is in use and was not tried yet."""
        with self._lock:
            return any(not each.is_unhealthy and each not in tried for each in self._all.values())

    @property
    def are_away(self) -> bool:
        """Whether no replica is in use, and one may say at any moment that it is ready."""
        with self._lock:
            now_s = time.monotonic()
            are_unhealthy = all(each.is_unhealthy for each in self._all.values())
            return are_unhealthy and any(each.rests_until_s <= now_s for each in self._all.values())

    @property
    def has_answered(self) -> bool:
        """Whether any replica ever did."""
        with self._lock:
            return self._has_answered or any(each.has_answered for each in self._all.values())

    def next_return(self) -> Future[None]:
        """Return what is done once a replica is in use again."""
        returned: Future[None] = Future()
        with self._lock:
            self._waiting = [each for each in self._waiting if not each.done()]
            if all(each.is_unhealthy for each in self._all.values()):
                self._waiting.append(returned)
            else:
                returned.set_result(None)
        return returned

    def to_probe(self, replica: Replica) -> bool:
        """Return whether a replica is marked unhealthy and nobody probes it yet; whoever is told so must."""
        with self._lock:
            is_new = replica.is_unhealthy and not replica.is_probed
            replica.is_probed = replica.is_probed or is_new
            return is_new

    def to_look_after(self, replica: Replica) -> bool:
        """Return whether nobody asks a replica already whether it is there; whoever is told so must."""
        with self._lock:
            is_new = not replica.is_doubted and not replica.is_unhealthy
            replica.is_doubted = replica.is_doubted or is_new
            return is_new

    def is_wanted(self, replica: Replica) -> bool:
        """Return whether a replica is still worth a probe; if not, nobody probes it any more."""
        with self._lock:
            is_busy = any(each.num_calls for each in self._all.values())
            is_busy = is_busy or not all(each.done() for each in self._waiting)
            is_idle = not is_busy and time.monotonic() - self._used_s > _IDLE_AFTER_S
            replica.is_probed = replica.is_listed and replica.is_unhealthy and not is_idle
            return replica.is_probed

    def take_left(self) -> list[Replica]:
        """Return the replicas that are no longer listed and have no requests under way, each once."""
        with self._lock:
            done = [each for each in self._left if not each.num_calls]
            self._left = [each for each in self._left if each.num_calls]
            return done
