from __future__ import annotations

import pytest

from sapiens_client import ClientOptions, InvalidInputError
from sapiens_client.connection.address import checked_targets
from sapiens_client.servers.probes import Probes
from sapiens_client.servers.replicas import Replicas
from sapiens_client.steps import CLOSED, RpcFailure


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(checked_targets("a:1,b:2,c:3"))


def test_equals_take_turns_and_the_least_busy_comes_first(replicas):
    taken = [replicas.take([]) for _ in range(3)]
    assert {replica.address for replica in taken} == {"a:1", "b:2", "c:3"}
    replicas.give_back(taken[1])
    assert replicas.take([]) is taken[1]


def test_what_failed_is_chosen_only_when_there_is_nothing_else(replicas):
    failed = replicas.take([])
    replicas.mark_unhealthy(failed)
    replicas.give_back(failed)
    others = {replicas.take([]) for _ in range(6)}
    assert failed not in others
    assert replicas.has_other([])
    assert not replicas.has_other(others)
    for replica in others:
        replicas.mark_unhealthy(replica)
    assert replicas.take(others) is failed


def test_a_replica_that_answers_what_it_had_before_stays_aside(replicas):
    leaving = replicas.take([])
    replicas.mark_unhealthy(leaving)
    replicas.answered(leaving, was_unhealthy=False)
    assert leaving.is_unhealthy
    replicas.says_ready(leaving)
    assert not leaving.is_unhealthy


def test_a_replica_that_rests_is_not_believed_and_rests_longer_each_time(replicas):
    tired = replicas.take([])
    rests = []
    for _ in range(3):
        replicas.mark_unhealthy(tired, to_rest=True)
        replicas.says_ready(tired)
        assert tired.is_unhealthy
        rests.append(tired.rests_until_s)
        tired.is_unhealthy = False
    assert rests[0] < rests[1] < rests[2]


def test_a_replica_that_is_no_longer_listed_is_left_once_it_is_idle():
    (target,) = checked_targets("dns:///name:1")
    replicas = Replicas([target])
    replicas.set_addresses(target, {"10.0.0.1:1": "name", "10.0.0.2:1": "name"})
    busy = replicas.take([])
    replicas.set_addresses(target, {"10.0.0.3:1": "name"})
    (idle,) = replicas.take_left()
    assert {idle.address, busy.address} == {"10.0.0.1:1", "10.0.0.2:1"}
    replicas.give_back(busy)
    assert (replicas.take_left(), replicas.take_left()) == ([busy], [])
    assert [each.address for each in replicas.listed()] == ["10.0.0.3:1"]


def test_only_one_probes_a_replica(replicas):
    replica = replicas.take([])
    replicas.mark_unhealthy(replica)
    assert (replicas.to_probe(replica), replicas.to_probe(replica)) == (True, False)
    assert replicas.is_wanted(replica)
    replicas.says_ready(replica)
    assert not replicas.is_wanted(replica)


def test_a_probe_that_ends_at_once_is_started_once(replicas):
    replicas.mark_unhealthy(replicas.take([]))
    watch = Probes(replicas, sender=None, known=None).watch()
    probe = next(watch).flow
    next(probe)
    with pytest.raises(RpcFailure):
        probe.throw(RpcFailure(CLOSED, "as of a client that was closed"))
    assert next(watch, None) is None


def test_whoever_waits_is_told_when_one_is_back(replicas):
    everyone = [replicas.take([]) for _ in range(3)]
    assert replicas.next_return().done()
    for replica in everyone:
        replicas.mark_unhealthy(replica)
    assert replicas.are_away
    waiting, left = replicas.next_return(), replicas.next_return()
    left.cancel()
    assert not waiting.done()
    replicas.says_ready(everyone[0])
    assert waiting.done()
    assert not replicas.are_away


@pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"patience_s": -1}, {"keepalive_s": 0}], ids=str)
def test_options_that_mean_nothing_are_refused(wrong):
    with pytest.raises(InvalidInputError, match=f"must .* got .*{next(iter(wrong))}="):
        ClientOptions(**wrong)
