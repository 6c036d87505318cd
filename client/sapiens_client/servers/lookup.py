"""Names that stand for several servers, looked up again while calls are made."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sapiens_client.errors import ServerUnavailableError
from sapiens_client.steps import Flow, Sleep, Work, spawned

if TYPE_CHECKING:
    from sapiens_client.connection.address import Target
    from sapiens_client.deadline import Deadline
    from sapiens_client.servers.replicas import Replicas

_LOOK_S = 0.01
_AGAIN_S = 0.25


@dataclass
class _NameState:
    """The state of one name.

    Attributes:
        is_under_way: Whether somebody asks right now.
        asked_s: When the last answer came, on the clock of `time.monotonic`.
        is_known: Whether there ever were addresses.
        failure: Why the last attempt gave none.
    """

    is_under_way: bool = False
    asked_s: float = float("-inf")
    is_known: bool = False
    failure: str = ""


class Lookup:
    """Keeps the replicas behind names current; nothing runs while no calls are made.

    Args:
        targets: Those whose names are to be looked up are taken from these.
        replicas: What is kept current.
        every_s: How old the addresses may become.
    """

    def __init__(self, targets: tuple[Target, ...], replicas: Replicas, every_s: float) -> None:
        self._names = {target: _NameState() for target in targets if target.is_resolved}
        self._replicas = replicas
        self._every_s = every_s
        self._lock = threading.Lock()

    def refreshed(self, deadline: Deadline, patience_s: float = 0.0) -> Flow[None]:
        """Look up what is old, in the background, and wait only where nothing is known yet.

        Args:
            deadline: When the call must be answered.
            patience_s: How long to wait for addresses where the system says that there are none.

        Raises:
            ServerUnavailableError: A name has no addresses, and no server is known otherwise.
            RequestTimeoutError: The system did not tell in time.
        """
        hopeless_at_s = time.monotonic() + patience_s
        yield from self._look_up_what_is_old()
        while not self._replicas.listed():
            if deadline.left_s() < _LOOK_S:
                raise deadline.missed(f"the addresses of {self._urls()}")
            if any(each.is_under_way for each in self._names.values()):
                yield Sleep(_LOOK_S)
            elif time.monotonic() < hopeless_at_s - _AGAIN_S:
                yield Sleep(min(_AGAIN_S, deadline.left_s()))
                yield from self._look_up_what_is_old()
            else:
                failures = "; ".join(dict.fromkeys(each.failure for each in self._names.values()))
                raise ServerUnavailableError(
                    f"{self._urls()} must be known to the system, got: {failures}; check the name"
                )

    def _look_up_what_is_old(self) -> Flow[None]:
        for target, name in self._names.items():
            if self._is_due(name):
                yield from spawned(self._look_up(target, name), partial(setattr, name, "is_under_way", False))

    def _is_due(self, name: _NameState) -> bool:
        with self._lock:
            is_due = not name.is_under_way and time.monotonic() - name.asked_s > self._every_s
            name.is_under_way = name.is_under_way or is_due
            return is_due

    def _look_up(self, target: Target, name: _NameState) -> Flow[None]:
        try:
            addresses = yield Work(lambda: addresses_of(target))
            self._replicas.set_addresses(target, addresses)  # where there are none now, the old ones stay
            name.is_known = True
        except OSError as error:
            name.failure = str(error)
        finally:
            # Until the first success every call asks again.
            name.asked_s = time.monotonic() if name.is_known else float("-inf")
            name.is_under_way = False

    def _urls(self) -> str:
        return " or ".join(target.url for target in self._names)


def addresses_of(target: Target) -> Mapping[str, str | None]:
    """Ask the system for the addresses of a name.

    Where a server has one of each kind, IPv4 stands for it, so that none is taken for two.

    Raises:
        OSError: The name has none, or nobody could be asked.
    """
    host = (target.host or "").strip("[]")
    found = socket.getaddrinfo(host, target.port, type=socket.SOCK_STREAM)
    numbers = {
        family: [str(each[4][0]) for each in found if each[0] == family] for family in socket.AddressFamily
    }
    if ipv4 := numbers[socket.AF_INET]:
        return dict.fromkeys((f"{number}:{target.port}" for number in ipv4), host)
    return dict.fromkeys((f"[{number}]:{target.port}" for number in numbers[socket.AF_INET6]), host)
