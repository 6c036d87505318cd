"""Play a fleet of servers: queues, batches, scaling and failures, for 1 to 1,000 replicas.

    python bench/fleet_simulation.py                                      # a table, 1 to 1,000 replicas
    python bench/fleet_simulation.py --replicas 3 --rate 75 --surge 3 --most-replicas 20    # it is scaled
    python bench/fleet_simulation.py --replicas 50 --failure-every 600    # servers die, each after 600 s
    python bench/fleet_check.py                                           # compared with two real servers

Requests come at random, each goes to the replica with the fewest under way, among equals in turn, as one
client of the SDK sends them; a full queue refuses it, and nobody asks again. A slot takes as many as wait, up
to a batch, for `--fixed-s` and `--image-s` for each of them. A dead replica's requests go to others. As many
replicas are wanted as Kubernetes wants: all waiting requests through `--waiting-each`, looked at every 15 s,
ready after `--start-s`; fewer only if 300 s long fewer were wanted.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
import simpy
from numpy.typing import NDArray

LOOK_EVERY_S = 15.0
SETTLING_S = 300.0
TABLE = (1, 3, 10, 30, 100, 300, 1000)


@dataclass(frozen=True)
class Fleet:
    """What is played.

    Attributes:
        replicas: Servers at the start, and the fewest.
        most_replicas: That scaling may make of them.
        slots: Batches that one computes at a time.
        batch_size: Requests of a batch, at most.
        fixed_s: Seconds that a batch takes, however large.
        image_s: And for each of its requests.
        queue_size: Requests that wait at one server; more are refused.
        waiting_each: Waiting requests that each replica may have before there are more.
        start_s: Until a further replica is ready, or one that died.
        failure_every_s: How long a replica lives on the average; infinite: for ever.
        around_s: What a request takes beside: the way, decoding, finishing.
    """

    replicas: int = 2
    most_replicas: int = 0
    slots: int = 1
    batch_size: int = 4
    fixed_s: float = 0.0
    image_s: float = 0.028
    queue_size: int = 64
    waiting_each: float = 4.0
    start_s: float = 60.0
    failure_every_s: float = math.inf
    around_s: float = 0.012

    @property
    def rate_of_one(self) -> float:
        """Requests per second that a replica can carry, with full batches."""
        return self.slots * self.batch_size / (self.fixed_s + self.batch_size * self.image_s)


@dataclass
class Outcome:
    """What became of the requests.

    Attributes:
        took_s: Of each that was answered, by its number; of others NaN.
        num_refused: How many were refused.
        num_moved: How often one went to another replica because its own died.
        most_replicas: That were ready at a time.
        scaled_at_s: When waiting was what is allowed again, after it had been more; NaN: it never was.
    """

    took_s: NDArray[np.float64]
    num_refused: int = 0
    num_moved: int = 0
    most_replicas: int = 0
    scaled_at_s: float = math.nan

    def quantile_s(self, share: float) -> float:
        """Return what so many of the answers took at most."""
        return float(np.nanquantile(self.took_s, share))

    @property
    def refused_share(self) -> float:
        """Refused of all."""
        return self.num_refused / len(self.took_s)


@dataclass
class _Replica:
    is_ready: bool = True
    life: int = 0  # goes up when it dies: what it had begun is nobody's any more
    waiting: deque[int] = field(default_factory=deque)
    running: list[list[int]] = field(default_factory=list)
    num_under_way: int = 0


class Simulation:
    """One run.

    Args:
        fleet: What is played.
        arrivals_s: (N,) seconds at which requests come, in their order.
        seed: Of when replicas die.
    """

    def __init__(self, fleet: Fleet, arrivals_s: NDArray[np.float64], seed: int = 0) -> None:
        self._fleet = fleet
        self._arrivals_s = arrivals_s
        self._rng = np.random.default_rng(seed)
        self._environment = simpy.Environment()
        self._replicas: list[_Replica] = []
        self._turns = itertools.count()
        self._order: list[tuple[int, int, _Replica]] = []  # by requests under way; entries may be old
        self._outcome = Outcome(np.full(len(arrivals_s), np.nan))

    def run(self) -> Outcome:
        """Play it until all requests are over."""
        for _ in range(self._fleet.replicas):
            self._replicas.append(_Replica())
            self._begin(self._replicas[-1])
        self._outcome.most_replicas = self._fleet.replicas
        arriving = self._environment.process(self._arrive())
        if self._fleet.most_replicas:
            self._environment.process(self._scale())
        self._environment.run(arriving)
        while any(replica.num_under_way for replica in self._replicas):
            self._environment.step()
        return self._outcome

    def _arrive(self) -> simpy.events.ProcessGenerator:
        for number, when_s in enumerate(self._arrivals_s):
            yield self._environment.timeout(when_s - self._environment.now)
            self._send(number)

    def _begin(self, replica: _Replica) -> None:
        replica.is_ready = True
        self._note(replica)
        if math.isfinite(self._fleet.failure_every_s):
            self._environment.process(self._die_and_return(replica))

    def _note(self, replica: _Replica) -> None:
        heapq.heappush(self._order, (replica.num_under_way, next(self._turns), replica))

    def _least(self) -> _Replica | None:
        while self._order:
            count, _, replica = self._order[0]
            if replica.is_ready and count == replica.num_under_way:
                return replica
            heapq.heappop(self._order)
        return None

    def _send(self, number: int) -> None:
        replica = self._least()
        if replica is None or len(replica.waiting) >= self._fleet.queue_size:
            self._outcome.num_refused += 1
            return
        replica.num_under_way += 1
        replica.waiting.append(number)
        self._note(replica)
        self._start(replica)

    def _start(self, replica: _Replica) -> None:
        fleet = self._fleet
        while replica.waiting and len(replica.running) < fleet.slots:
            batch = [replica.waiting.popleft() for _ in range(min(fleet.batch_size, len(replica.waiting)))]
            replica.running.append(batch)
            done = self._environment.timeout(fleet.fixed_s + len(batch) * fleet.image_s)
            done.callbacks.append(lambda _, life=replica.life, batch=batch: self._end(replica, life, batch))

    def _end(self, replica: _Replica, life: int, batch: list[int]) -> None:
        if life != replica.life:
            return
        for number in batch:
            took_s = self._environment.now - self._arrivals_s[number] + self._fleet.around_s
            self._outcome.took_s[number] = took_s
        replica.running.remove(batch)
        replica.num_under_way -= len(batch)
        self._note(replica)
        self._start(replica)

    def _die_and_return(self, replica: _Replica) -> simpy.events.ProcessGenerator:
        yield self._environment.timeout(self._rng.exponential(self._fleet.failure_every_s))
        if replica not in self._replicas:  # it was let go
            return
        lost = [*itertools.chain(*replica.running), *replica.waiting]
        replica.life += 1
        replica.is_ready, replica.num_under_way = False, 0
        replica.running, replica.waiting = [], deque()
        self._outcome.num_moved += len(lost)
        for number in lost:
            self._send(number)
        yield self._environment.timeout(self._fleet.start_s)
        self._begin(replica)

    def _scale(self) -> simpy.events.ProcessGenerator:
        fleet, was_more = self._fleet, False
        wanted: deque[int] = deque(maxlen=round(SETTLING_S / LOOK_EVERY_S))
        while True:
            yield self._environment.timeout(LOOK_EVERY_S)
            waiting = sum(len(replica.waiting) for replica in self._replicas)
            ready = sum(replica.is_ready for replica in self._replicas)
            is_more = waiting > fleet.waiting_each * ready
            if was_more and not is_more:
                self._outcome.scaled_at_s = self._environment.now
            was_more = is_more
            wanted.append(
                min(max(math.ceil(waiting / fleet.waiting_each), fleet.replicas), fleet.most_replicas)
            )
            for _ in range(max(wanted) - len(self._replicas)):
                self._environment.process(self._come())
            for _ in range(len(self._replicas) - max(wanted)):
                self._retire()

    def _come(self) -> simpy.events.ProcessGenerator:
        replica = _Replica(is_ready=False)
        self._replicas.append(replica)  # it counts, so that it is not wanted twice
        yield self._environment.timeout(self._fleet.start_s)
        self._begin(replica)
        ready = sum(each.is_ready for each in self._replicas)
        self._outcome.most_replicas = max(self._outcome.most_replicas, ready)

    def _retire(self) -> None:
        """Let a replica that nobody waits at go: what it has, it finishes."""
        idle = [replica for replica in self._replicas if replica.is_ready and not replica.num_under_way]
        if idle:
            idle[-1].is_ready = False
            self._replicas.remove(idle[-1])


def arrivals(rate: float, seconds: float, *, surge: float = 1.0, seed: int = 0) -> NDArray[np.float64]:
    """Return when requests come, at random.

    Args:
        rate: Per second, on the average.
        seconds: How long.
        surge: By how much more there are in the last two thirds of that.
        seed: Another one, another run.

    Returns:
        (N,) float64, seconds, ascending.
    """
    rng = np.random.default_rng(seed)
    parts = ((0.0, seconds / 3, rate), (seconds / 3, seconds, rate * surge))
    times = [rng.uniform(begin, end, rng.poisson(per_s * (end - begin))) for begin, end, per_s in parts]
    return np.sort(np.concatenate(times))


def row(fleet: Fleet, rate: float, seconds: float, surge: float) -> str:
    """Play a fleet; return a line of the table."""
    times = arrivals(rate, seconds, surge=surge)
    outcome = Simulation(fleet, times).run()
    to_scale_s = outcome.scaled_at_s - seconds / 3
    cells = (
        f"{fleet.replicas}" + (f" to {outcome.most_replicas}" if fleet.most_replicas else ""),
        f"{rate:.0f}" + (f", then {rate * surge:.0f}" if surge != 1 else ""),
        f"{len(times):,}",
        f"{outcome.quantile_s(0.5):.3f}",
        f"{outcome.quantile_s(0.99):.3f}",
        f"{outcome.refused_share:.2%}",
        f"{outcome.num_moved}",
        "-" if math.isnan(to_scale_s) else f"{to_scale_s:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rate", type=float, help="requests per second; else 0.7 of what the replicas can")
    parser.add_argument("--requests", type=int, default=100_000, help="how many there are in all")
    parser.add_argument(
        "--surge", type=float, default=1.0, help="by how much more come after a third of the time"
    )
    parser.add_argument("--failure-every", type=float, default=math.inf, help="seconds a replica lives")
    for name in ("replicas", "most_replicas", "slots", "batch_size", "queue_size"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    for name in ("fixed_s", "image_s", "waiting_each", "start_s", "around_s"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float)
    options = parser.parse_args()
    known = {name: value for name, value in vars(options).items() if name in Fleet.__annotations__}
    given = {name: value for name, value in known.items() if value is not None}
    fleet = Fleet(**given, failure_every_s=options.failure_every)
    print("| replicas | requests/s | requests | p50, s | p99, s | refused | moved | to scale, s |")
    print("|---|---|---|---|---|---|---|---|")
    for replicas in [options.replicas] if options.replicas else TABLE:
        played = replace(fleet, replicas=replicas)
        rate = options.rate or 0.7 * replicas * fleet.rate_of_one
        mean_rate = rate * (1 + 2 * options.surge) / 3
        print(row(played, rate, options.requests / mean_rate, options.surge), flush=True)


if __name__ == "__main__":
    main()
