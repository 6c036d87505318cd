"""The simulation of a fleet against what is known of queues; `tests/deploy` compares it with real servers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fleet_simulation import Fleet, Simulation, arrivals

from sapiens_export.capacity.queueing import wait_quantile_s

SINGLE = Fleet(batch_size=1, image_s=0.1, around_s=0.0, queue_size=10**6)


def played(fleet, rate, num_requests=20_000, **how):
    return Simulation(fleet, arrivals(rate, num_requests / rate, **how)).run()


def test_one_server_lets_wait_as_long_as_the_formula_says():
    # Pollaczek and Khinchine: load x service / 2 (1 - load)
    outcome = played(Fleet(**{**vars(SINGLE), "replicas": 1}), 7.0, 50_000)
    assert np.mean(outcome.took_s) == pytest.approx(0.1 + 0.7 * 0.1 / (2 * 0.3), rel=0.03)


@pytest.mark.parametrize("replicas", [1, 3, 10, 30])
def test_a_plan_tells_the_p99_that_is_played(replicas):
    rate = 0.7 * replicas * SINGLE.rate_of_one
    outcome = played(Fleet(**{**vars(SINGLE), "replicas": replicas}), rate, 50_000)
    assert 0.1 + wait_quantile_s(replicas, rate, 0.1, 0.99) == pytest.approx(
        outcome.quantile_s(0.99), rel=0.2
    )


def test_what_is_too_much_is_refused():
    outcome = played(Fleet(replicas=2, slots=4, batch_size=1, image_s=0.1, queue_size=8), 3 * 80)
    assert outcome.refused_share == pytest.approx(2 / 3, rel=0.02)
    assert outcome.quantile_s(1.0) <= 0.012 + 0.1 * (1 + 8 / 4) + 1e-9  # a full queue, then its own turn


def test_batches_carry_more_than_single_requests():
    times = arrivals(30.0, 200.0)
    single, batched = (
        Simulation(Fleet(replicas=1, batch_size=size, fixed_s=0.05, image_s=0.01), times).run()
        for size in (1, 8)
    )
    assert single.refused_share > 0.4
    assert batched.refused_share == 0


def test_who_dies_takes_no_request_along():
    outcome = played(Fleet(replicas=10, failure_every_s=20.0, start_s=1.0), 200.0)
    assert outcome.num_moved > 10
    assert np.isnan(outcome.took_s).sum() == outcome.num_refused == 0


def test_more_replicas_come_when_many_wait():
    how = {"num_requests": 60_000, "surge": 3.0}
    fixed = played(Fleet(replicas=3), 75.0, **how)
    scaled = played(Fleet(replicas=3, most_replicas=12, start_s=30.0), 75.0, **how)
    assert 6 <= scaled.most_replicas <= 12
    assert scaled.scaled_at_s > 60_000 / 75 / 3
    assert scaled.refused_share < fixed.refused_share / 3
    assert math.isnan(fixed.scaled_at_s)
