"""How often the end of a burst waits in a queue of the server, and which part of the configs makes it wait.

    python bench/bursts.py [--bursts 14] [--calls 10] [--callers 4]

Depth of a JPEG of 1080 x 1440 pixels at network size, by a network that costs next to nothing, on a server of
its own for every way to write the configs: bursts of calls, after each of which nothing is under way.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from overhead import photograph, request, write_repository
from tritonclient.grpc import model_config_pb2 as pb

from sapiens_client.tensors import TensorClient
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_server import serve

LONG_S = 0.45  # the batcher looks again after half a second
DELAY_US = 100


def without_timeouts(config: pb.ModelConfig) -> None:
    """Let requests stay in the queue for ever."""
    config.dynamic_batching.default_queue_policy.ClearField("default_timeout_microseconds")
    config.dynamic_batching.default_queue_policy.ClearField("allow_timeout_override")


def with_delay(config: pb.ModelConfig) -> None:
    """Let requests wait for others."""
    config.dynamic_batching.max_queue_delay_microseconds = DELAY_US


def without_batcher(config: pb.ModelConfig) -> None:
    """Hand requests to instances as they come."""
    config.ClearField("dynamic_batching")


def without_batcher_of_steps(config: pb.ModelConfig) -> None:
    """Do that for what is before and after the engine."""
    if not config.max_batch_size:
        without_batcher(config)


WAYS: Mapping[str, Callable[[pb.ModelConfig], None]] = {
    "as they are": lambda config: None,
    "queues without a timeout": without_timeouts,
    f"`max_queue_delay_microseconds: {DELAY_US}`": with_delay,
    "no `dynamic_batching` before and after the engine": without_batcher_of_steps,
    "no `dynamic_batching` anywhere": without_batcher,
}


def rewrite(repository: Path, change: Callable[[pb.ModelConfig], None]) -> None:
    """Change the configs of everything that has a queue."""
    for path in repository.glob("*/config.pbtxt"):
        config = text_format.Parse(path.read_text(), pb.ModelConfig())
        if config.HasField("dynamic_batching"):
            change(config)
            path.write_text(text_format.MessageToString(config))


def longest_s(call: Callable[[], object], num_calls: int) -> float:
    """Return how long the slowest of some calls takes, one after the other."""
    longest = 0.0
    for _ in range(num_calls):
        started = time.perf_counter()
        call()
        longest = max(longest, time.perf_counter() - started)
    return longest


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bursts", type=int, default=14)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--callers", type=int, default=4)
    options = parser.parse_args()
    image = np.frombuffer(photograph(1080, 1440), np.uint8)
    print(f"| configs | bursts with a call above {LONG_S} s | calls/s |\n|---|---|---|")
    for name, change in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            repository = Path(folder, "models")
            write_repository(repository, first_recipe(Task.DEPTH), "free")
            rewrite(repository, change)
            with serve(repository, grpc_port=0) as server, ThreadPoolExecutor(options.callers) as threads:
                clients = [TensorClient(server.grpc_url) for _ in range(options.callers)]
                calls = [partial(request, each, "depth_raw", "depth_map", image=image) for each in clients]
                started = time.perf_counter()
                longest = [
                    max(threads.map(longest_s, calls, [options.calls] * len(calls)))
                    for _ in range(options.bursts)
                ]
                rate = options.bursts * options.callers * options.calls / (time.perf_counter() - started)
        num_long = sum(each > LONG_S for each in longest)
        print(f"| {name} | {num_long} of {options.bursts} | {rate:.1f} |", flush=True)


if __name__ == "__main__":
    main()
