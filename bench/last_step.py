"""Where the last step of depth, normals and classes costs less when client and server share a machine.

    python bench/last_step.py [--rounds 4] [--call depth]

The server makes the array as large as the image (`output="image"`), the client does by the same function
(`"network"`), or it chooses (`"auto"`); shared memory is on. `analyze` asks for all three results. The
networks have the released sizes and cost nothing, so that only the way of the arrays is seen. The three take
turns; latency is the lower quartile of the rounds' medians, throughput their upper one, CPU the median of
caller and server together.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from typing import get_args

from measure import Sample, load, process_tree, summary
from overhead import photograph, write_repository

from sapiens_client import ClientOptions, SapiensClient
from sapiens_client.connection.options import Output
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_server import serve

TASKS = (Task.DEPTH, Task.NORMAL, Task.SEG)
CALLS = (*(task.value for task in TASKS), "analyze")
SIZES_WH = ((1080, 1440), (4000, 3000))
CALLS_PER_ROUND = {1: 3, 8: 8}
FIGURES = {"ms": "latency_ms", "calls/s": "per_second", "CPU ms": "cpu_ms"}


def compared(
    clients: Mapping[str, SapiensClient], call: str, jpeg: bytes, num_callers: int, num_rounds: int
) -> dict[str, Sample]:
    """Let all take turns; the first round warms up."""
    pids = process_tree(os.getpid())  # the server is a child of this process
    tasks = [TASKS] if call == "analyze" else []
    samples: dict[str, list[Sample]] = {place: [] for place in clients}
    for _ in range(num_rounds + 1):
        for place, client in clients.items():
            calls = [partial(getattr(client, call), jpeg, *tasks)] * num_callers
            samples[place].append(load(calls, CALLS_PER_ROUND[num_callers], pids))
    return {place: summary(taken[1:]) for place, taken in samples.items()}


def compare(url: str, calls: Sequence[str], num_rounds: int) -> None:
    """Print a row for every size, call and number of callers."""
    with ExitStack() as stack:
        clients = {
            place: stack.enter_context(SapiensClient(url, timeout_s=300, options=ClientOptions(output=place)))
            for place in get_args(Output)
        }
        columns = [f"{place}: {figure}" for figure in FIGURES for place in clients]
        print(f"| JPEG of | call | callers | {' | '.join(columns)} |")
        print(f"|{'---|' * (3 + len(columns))}", flush=True)
        for (width, height), call, num_callers in product(SIZES_WH, calls, CALLS_PER_ROUND):
            jpeg = photograph(width, height)
            samples = compared(clients, call, jpeg, num_callers, num_rounds).values()
            cells = [f"{getattr(sample, figure):.1f}" for figure in FIGURES.values() for sample in samples]
            print(f"| {width} x {height} | {call} | {num_callers} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--call", action="append", choices=CALLS, help="repeatable")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        for task in TASKS:
            write_repository(repository, first_recipe(task), "free")
        with serve(repository, grpc_port=0) as server:
            compare(server.grpc_url, options.call or CALLS, options.rounds)


if __name__ == "__main__":
    main()
