"""How long requests wait for one of several servers."""

from __future__ import annotations

import math


def waiting_share(num_servers: int, load: float) -> float:
    """Return the share of requests that find all servers busy.

    Args:
        num_servers: How many there are.
        load: Rate x service time, less than `num_servers`.

    Source: Erlang's C formula, by the recursion of his B formula.
    """
    blocked = 1.0
    for count in range(1, num_servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / num_servers * (1 - blocked))


def wait_quantile_s(num_servers: int, rate: float, service_s: float, share: float) -> float:
    """Return how long a share of the requests waits at most, if they come at random and all take as long.

    Args:
        num_servers: How many there are.
        rate: Requests per second.
        service_s: Seconds that one takes.
        share: Of the requests, such as 0.99.

    Returns:
        Seconds; infinite where more comes than they can do.

    Source: the waits of Erlang's model, halved because service times do not vary (Allen and Cunneen). But
    whoever comes when all are busy is given to one, not to the first that is free, and waits for what that
    one still has to do, up to a whole service. The longer of both is within a fifth of what is played.
    """
    load = rate * service_s
    if load >= num_servers:
        return math.inf
    waiting = waiting_share(num_servers, load)
    if waiting <= 1 - share:
        return 0.0
    in_one_queue_s = 0.5 * math.log(waiting / (1 - share)) * service_s / (num_servers - load)
    behind_one_s = service_s * (1 - (1 - share) / waiting)
    return max(in_one_queue_s, behind_one_s)
