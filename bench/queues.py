"""What the queues of Triton's dynamic batcher cost, and what there is against it.

    python bench/queues.py [--ms-per-image 25] [--callers 1 --callers 2] [--seconds 6]

Depth of a JPEG of 1080 x 1440 pixels at network size. Where the engine would be, something waits as long as a
GPU would compute, one batch after the other however many copies of it there are, and takes no processor. A
server of its own for every way to write the configs; callers ask again as soon as they have their answer.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from overhead import photograph, write_repository
from tritonclient.grpc import model_config_pb2 as pb

from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_export.repository.write import VERSION_FOLDER
from sapiens_server import serve

ENGINE = first_recipe(Task.DEPTH).engine.name
BENCH = Path(__file__).parent


def with_copies(config: pb.ModelConfig) -> None:
    """Give the engine a second process, as `sapiens export --instances 2` does."""
    if config.name == ENGINE:
        config.instance_group[0].count = 2


def without_policy(config: pb.ModelConfig) -> None:
    """Let any number of requests wait at the engine, for ever: Triton's default."""
    if config.name == ENGINE:
        config.dynamic_batching.ClearField("default_queue_policy")


def without_policies(config: pb.ModelConfig) -> None:
    """Let any number of requests wait at every step, for ever."""
    config.dynamic_batching.ClearField("default_queue_policy")


def without_batcher(config: pb.ModelConfig) -> None:
    """Hand requests to instances as they come."""
    config.ClearField("dynamic_batching")


WAYS: Mapping[str, Callable[[pb.ModelConfig], None]] = {
    "one engine": lambda config: None,
    "two engines (`--instances 2`)": with_copies,
    "one engine, without a queue policy": without_policy,
    "one engine, no queue policy anywhere": without_policies,
    "one engine, no `dynamic_batching`": without_batcher,
}


def rewrite(repository: Path, change: Callable[[pb.ModelConfig], None], ms_per_image: float) -> None:
    """Put the stand-in where the engine is, and change the configs of everything that has a queue."""
    shutil.copy(BENCH / "one_gpu" / "model.py", repository / ENGINE / VERSION_FOLDER)
    for path in repository.glob("*/config.pbtxt"):
        config = text_format.Parse(path.read_text(), pb.ModelConfig())
        if config.HasField("dynamic_batching"):
            change(config)
        if config.name == ENGINE:
            config.parameters["ms_per_image"].string_value = str(ms_per_image)
        path.write_text(text_format.MessageToString(config))


def ask(url: str, photo: Path, num_callers: int, seconds: float) -> tuple[float, list[float]]:
    """Return answers per second, and how long each took [ms]."""
    words = (url, "depth_raw", "depth_map", str(photo), f"--threads={num_callers}", f"--seconds={seconds}")
    command = [sys.executable, str(BENCH / "callers.py"), *words]
    times = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    lasted_s = max(end for _, end in times) - min(put for put, _ in times)
    return len(times) / lasted_s, [(end - put) * 1e3 for put, end in times]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ms-per-image", type=float, default=25.0)
    parser.add_argument("--callers", action="append", type=int)
    parser.add_argument("--seconds", type=float, default=6.0, help="of every measurement")
    options = parser.parse_args()
    callers = options.callers or [1, 2, 4, 8, 16]
    print(f"At most {1e3 / options.ms_per_image:.0f} images/s. Images/s, p50 and p99 in ms, by callers:\n")
    print(f"| configs | {' | '.join(map(str, callers))} |\n|---{'|---' * len(callers)}|")
    for name, change in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            repository, photo = Path(folder, "models"), Path(folder, "photo.jpg")
            photo.write_bytes(photograph(1080, 1440))
            write_repository(repository, first_recipe(Task.DEPTH), "free")
            rewrite(repository, change, options.ms_per_image)
            cells = []
            with serve(repository, grpc_port=0) as server:
                for num_callers in callers:
                    rate, latencies = ask(server.grpc_url, photo, num_callers, options.seconds)
                    cells.append(
                        f"{rate:.1f}, {np.median(latencies):.0f}, {np.quantile(latencies, 0.99):.0f}"
                    )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
