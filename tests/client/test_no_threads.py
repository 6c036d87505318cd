"""Work in the background for which no thread can be started is begun by a later call."""

from __future__ import annotations

import numpy as np
import pytest

from sapiens_client import SapiensClient
from sapiens_client.connection.address import checked_targets
from sapiens_client.servers.probes import Probes
from sapiens_client.servers.replicas import Replicas
from sapiens_client.steps import Flow, Spawn
from sapiens_client.testing import FakeServer

NONE_LEFT = "can't start new thread"


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(checked_targets("a:1,b:2"))


def spawned(flow: Flow[None]) -> int:
    """Run a flow that only starts others, and return how many."""
    return sum(isinstance(step, Spawn) for step in flow)


def fail_at(flow: Flow[None], number: int) -> None:
    """Run a flow, in which no thread can be started for one of those that it starts."""
    for _ in range(number + 1):
        assert isinstance(next(flow), Spawn)
    with pytest.raises(RuntimeError, match=NONE_LEFT):
        flow.throw(RuntimeError(NONE_LEFT))


@pytest.mark.parametrize("number", [0, 1])
def test_replicas_are_probed_by_the_next_call(number: int, replicas: Replicas) -> None:
    for replica in replicas.listed():
        replicas.mark_unhealthy(replica)
    probes = Probes(replicas, None, None)
    fail_at(probes.watch(), number)
    assert spawned(probes.watch()) == 2 - number
    assert spawned(probes.watch()) == 0


def test_a_replica_that_kept_somebody_waiting_is_asked_by_the_next_call(replicas: Replicas) -> None:
    probes = Probes(replicas, None, None)
    replica = replicas.listed()[0]
    fail_at(probes.look_after(replica), 0)
    assert spawned(probes.look_after(replica)) == 1
    assert spawned(probes.look_after(replica)) == 0


def test_a_name_is_looked_up_by_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(NONE_LEFT)

    photo = np.zeros((9, 9, 3), np.uint8)
    with FakeServer() as server:
        name = f"dns:///localhost:{server.url.rpartition(':')[2]}"
        with SapiensClient(name, timeout_s=30) as client:
            with monkeypatch.context() as patch:
                patch.setattr("sapiens_client.wire.threads.started", refuse)
                with pytest.raises(RuntimeError, match=NONE_LEFT):
                    client.depth(photo)
            assert client.depth(photo).image_hw == (9, 9)
