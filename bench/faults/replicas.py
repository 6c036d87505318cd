"""One of two servers is killed, hangs, stops, is restarted, loses a process; or others come and go."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from figures import Figure, at_most, exactly, told
from load import Load, Sizes
from servers import WAIT_S, Fleet, is_listening, model_processes, port_of

from sapiens_client import ClientOptions, SapiensClient

_HANG_S = 6.0
_PING_S, _PING_TIMEOUT_S = 2.0, 1.0
# Triton accepts pings that come at most as often as this.
_CONSENT = f"--grpc-http2-min-recv-ping-interval-without-data={_PING_S / 2 * 1e3:.0f}"
_NAME = "replicas.example"


def kill(sizes: Sizes) -> list[Figure]:
    """SIGKILL for one of two servers; later it is started again."""
    with Fleet() as fleet:
        one, other = fleet.start(), fleet.start()
        client = SapiensClient([one.grpc_url, other.grpc_url])
        with client, Load(client, sizes.num_callers) as load:
            load.until(sizes.event_s)
            fleet.kill(one)
            was_listening = is_listening(one)
            load.until(sizes.event_s + (sizes.seconds - sizes.event_s) / 4)
            back = fleet.start(port=port_of(one))
            ready_s = load.now_s()
            load.until(max(sizes.seconds, ready_s + 2))
    return [
        exactly("the killed server's port is open", was_listening, False),
        *load.figures(slowest_s=0.5 + WAIT_S),
        at_most("first answer after it is ready again", load.first_answer_s(back.pid) - ready_s, 1.0, "s"),
    ]


def hang(sizes: Sizes) -> list[Figure]:
    """SIGSTOP for one of two servers, later SIGCONT; the client pings every 2 s and waits for 1 s."""
    options = ClientOptions(keepalive_s=_PING_S, keepalive_timeout_s=_PING_TIMEOUT_S)
    with Fleet(_CONSENT) as fleet:
        one, other = fleet.start(), fleet.start()
        client = SapiensClient([one.grpc_url, other.grpc_url], options=options)
        with client, Load(client, sizes.num_callers) as load:
            load.until(sizes.event_s)
            os.kill(one.pid, signal.SIGSTOP)
            try:
                load.until(min(sizes.event_s + _HANG_S, sizes.seconds - 1))
            finally:
                os.kill(one.pid, signal.SIGCONT)
            resumed_s = load.now_s()
            load.until(sizes.seconds)
    answered_s = load.first_answer_s(one.pid, after_s=resumed_s)
    return [
        *load.figures(slowest_s=_PING_S + _PING_TIMEOUT_S + WAIT_S),
        told("first answer after it goes on", answered_s - resumed_s, "s"),
    ]


def stop(sizes: Sizes) -> list[Figure]:
    """SIGTERM for one of two servers."""
    with Fleet() as fleet:
        one, other = fleet.start(), fleet.start()
        client = SapiensClient([one.grpc_url, other.grpc_url])
        with client, Load(client, sizes.num_callers) as load:
            load.until(sizes.event_s)
            fleet.stop(one)
            ended_s = load.now_s()
            load.until(max(sizes.seconds, ended_s + 1))
    return [
        exactly("the stopped server's port is open", is_listening(one), False),
        told("its end took", ended_s - sizes.event_s, "s"),
        *load.figures(),
    ]


def rolling(sizes: Sizes) -> list[Figure]:
    """SIGTERM for each of two servers in turn; the next turn comes as soon as the new one is ready."""
    with Fleet() as fleet:
        old = [fleet.start(), fleet.start()]
        client = SapiensClient([server.grpc_url for server in old])
        with client, Load(client, sizes.num_callers) as load:
            load.until(sizes.event_s)
            for server in old:
                fleet.stop(server)
                fleet.start(port=port_of(server))
            restarted_s = load.now_s()
            load.until(max(sizes.seconds, restarted_s + 1))
    servers = {call.server for call in load.calls} - {None}
    return [
        exactly("servers that answered, old and new", len(servers), 4),
        told("the restarts took", restarted_s - sizes.event_s, "s"),
        *load.figures(),
    ]


def stub(sizes: Sizes) -> list[Figure]:
    """SIGKILL for one of the four processes of the model in one of two servers."""
    with Fleet() as fleet:
        one, other = fleet.start(), fleet.start()
        client = SapiensClient([one.grpc_url, other.grpc_url])
        with client, Load(client, sizes.num_callers) as load:
            load.until(sizes.event_s)
            killed = model_processes(one)[0]
            os.kill(killed, signal.SIGKILL)
            load.until(sizes.seconds)
    return load.figures(slowest_s=1.5)


def dns(sizes: Sizes) -> list[Figure]:
    """A name stands for one server, then for two, then for the other; it changes when it was just looked up.

    This process decides what the name stands for, in place of the system. The server that is removed stops
    once the client's addresses are old enough.
    """
    options = ClientOptions(resolve_every_s=sizes.resolve_every_s)
    with Fleet() as fleet, _own_name() as name:
        first = fleet.start()
        name.hosts = ["127.0.0.1"]
        client = SapiensClient(f"dns:///{_NAME}:{port_of(first)}", options=options)
        with client, Load(client, sizes.num_callers) as load:
            added = fleet.start("127.0.0.2", port_of(first))
            load.until(sizes.event_s)
            name.change(["127.0.0.1", "127.0.0.2"])
            added_s = load.now_s()
            load.until(added_s + sizes.resolve_every_s + 1)
            name.change(["127.0.0.2"])
            removed_s = load.now_s()
            load.until(removed_s + sizes.resolve_every_s + 1)
            fleet.stop(first)
            stopped_s = load.now_s()
            load.until(max(sizes.seconds, stopped_s + 1))
    left_s = max(call.started_s for call in load.calls if call.server == first.pid)
    num_failed = sum(bool(call.failure) for call in load.calls)
    return [
        told("calls", len(load.calls)),
        exactly("failed calls", num_failed, 0),
        at_most("first answer of the added server", load.first_answer_s(added.pid) - added_s, 5.0, "s"),
        told("last call to the removed server", left_s - removed_s, "s"),
        told("lookups of the name", name.num_lookups),
    ]


def scale(sizes: Sizes) -> list[Figure]:
    """A name stands for one server, then for three; it changes when it was just looked up."""
    options = ClientOptions(resolve_every_s=sizes.resolve_every_s)
    with Fleet() as fleet, _own_name() as name:
        first = fleet.start()
        name.hosts = ["127.0.0.1"]
        client = SapiensClient(f"dns:///{_NAME}:{port_of(first)}", options=options)
        with client, Load(client, sizes.num_callers) as load:
            added = [fleet.start(host, port_of(first)) for host in ("127.0.0.2", "127.0.0.3")]
            load.until(sizes.event_s)
            name.change(["127.0.0.1", "127.0.0.2", "127.0.0.3"])
            added_s = load.now_s()
            shared_s = added_s + sizes.resolve_every_s + 1
            load.until(shared_s + sizes.seconds)
    firsts = [load.first_answer_s(server.pid) - added_s for server in added]
    later = [call.server for call in load.calls if call.started_s >= shared_s]
    counts = [later.count(server.pid) for server in (first, *added)]
    mean = sum(counts) / len(counts)
    return [
        told("calls", len(load.calls)),
        exactly("failed calls", sum(bool(call.failure) for call in load.calls), 0),
        at_most("first answers of both added servers", max(firsts), 5.0, "s"),
        told("calls per server afterwards, fewest", min(counts)),
        told("calls per server afterwards, most", max(counts)),
        at_most("furthest from the mean", max(abs(count - mean) for count in counts) / mean, 0.1, "x"),
    ]


class _Name:
    """What a name stands for, and who wants to know."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.num_lookups = 0
        self._was_asked = threading.Event()

    def addresses(self, port: int) -> list[tuple[object, ...]]:
        """Answer like `socket.getaddrinfo`."""
        self.num_lookups += 1
        self._was_asked.set()
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)) for host in self.hosts
        ]

    def change(self, hosts: list[str]) -> None:
        """Wait for the next lookup, then change the answer: no moment keeps the client in the dark longer."""
        self._was_asked.clear()
        self._was_asked.wait()
        self.hosts = hosts


@contextmanager
def _own_name() -> Iterator[_Name]:
    name, ask_system = _Name(), socket.getaddrinfo

    def lookup(host: object, port: object, *arguments: object, **options: object) -> object:
        return name.addresses(port) if host == _NAME else ask_system(host, port, *arguments, **options)

    socket.getaddrinfo = lookup
    try:
        yield name
    finally:
        socket.getaddrinfo = ask_system
