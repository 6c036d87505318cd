"""How fast a GPU machine serves: JPEG in, results out, over gRPC, against the bare engine and the ceiling.

    python bench/gpu_served.py [--size 0.3b] [--task depth] [--runtime python] [--finish cpu --finish gpu]
    python bench/gpu_served.py --device cpu --network tiny    # the same path without a GPU

Every runtime is measured that this machine can build and its tritonserver can run: the bundled one runs
`python` engines alone, NVIDIA's container the others too. Weights are random. The bare engine is the same
file in this process with full batches, pixels from and results to the memory of the CPU. The ceiling is the
fastest of the network's own matrix products in the same number format on the same device; of tiny networks
it says nothing. Callers are threads of several processes on the same machine, see `callers.py`; the CPU time
per image is the server's alone. Results are as large as the image, or, where a task has such an ensemble,
what the network returns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from gpu_engines import NETWORK_TASKS, matmul_ceiling, tiny_network
from measure import process_tree, usage
from overhead import photograph

from sapiens_core.contract.engines import ENGINE_FILES, Runtime
from sapiens_core.contract.settings import Finish
from sapiens_core.recipes.lookup import FAMILIES
from sapiens_core.recipes.recipe import Task
from sapiens_export.engines.build import check_buildable
from sapiens_export.engines.cost import network_cost
from sapiens_export.engines.engine import EngineUnavailableError
from sapiens_export.engines.load import engine_from_file
from sapiens_export.engines.reduced import DTYPES
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.networks.config import NetworkConfig, released_network
from sapiens_export.parity.images import parity_pixels
from sapiens_export.repository.serving import Serving
from sapiens_export.repository.write import VERSION_FOLDER
from sapiens_export.weights.sources import source_from_seed
from sapiens_server import serve
from sapiens_server.engines import refusals
from sapiens_server.gpus import gpus

COLUMNS = (
    *("runtime", "finish", "result", "callers", "images/s", "p50 ms", "p95 ms", "p99 ms"),
    *("of the engine", "of the ceiling", "GPU", "server's CPU ms per image"),
)
PERCENTILES = (50, 95, 99)
MAX_PROCESSES = 8
SAMPLE_MS = 200
CALLERS = Path(__file__).with_name("callers.py")


@dataclass(frozen=True)
class Load:
    """What callers got.

    Attributes:
        per_second: Answers per second, all together.
        latencies_ms: Of every answer.
        cpu_ms: CPU time of the server per answer.
        gpu: Share of the time in which the GPU computed; None: there is none, or it does not tell.
    """

    per_second: float
    latencies_ms: Sequence[float]
    cpu_ms: float
    gpu: float | None


def load(asked: Sequence[str], num_callers: int, seconds: float, server_pid: int) -> Load:
    """Let callers ask, spread over processes.

    Args:
        asked: What, in the words of `callers.py`.
        num_callers: How many ask at a time.
        seconds: For how long.
        server_pid: Process id of the server.
    """
    num_processes = min(num_callers, MAX_PROCESSES, os.cpu_count() or 1)
    shares = [len(part) for part in np.array_split(np.arange(num_callers), num_processes)]
    pids = process_tree(server_pid)
    before = usage(pids)
    with gpu_use() as shares_of_gpu:
        words = [sys.executable, str(CALLERS), *asked, f"--seconds={seconds}"]
        callers = [
            subprocess.Popen([*words, f"--threads={share}"], stdout=subprocess.PIPE, text=True)
            for share in shares
        ]
        times = [each for caller in callers for each in json.loads(caller.communicate()[0])]
    spent = usage(pids) - before
    lasted_s = max(end for _, end in times) - min(put for put, _ in times)
    return Load(
        per_second=len(times) / lasted_s,
        latencies_ms=[(end - put) * 1e3 for put, end in times],
        cpu_ms=spent.cpu_s * 1e3 / (len(times) + num_callers),  # each asks once before
        gpu=float(np.mean(shares_of_gpu)) if shares_of_gpu else None,
    )


@contextmanager
def gpu_use() -> Iterator[list[float]]:
    """Fill a list with the shares of time in which the first GPU computed, by the end of the block."""
    found: list[float] = []
    if not torch.cuda.is_available():
        yield found
        return
    query = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with subprocess.Popen([*query, f"-lms={SAMPLE_MS}"], stdout=subprocess.PIPE, text=True) as watch:
        try:
            yield found
        finally:
            watch.terminate()
            words, _ = watch.communicate()
    found += [float(word) / 100 for word in words.split() if word.isdecimal()]


def bare_per_second(
    engine_file: Path, runtime: Runtime, config: NetworkConfig, options: argparse.Namespace
) -> float:
    """Return how many images a second the engine takes in this process, in full batches."""
    run = engine_from_file(runtime, engine_file, options.device)
    images = parity_pixels(config.input_hw)
    pixels = images[np.arange(options.max_batch_size) % len(images)]
    run(pixels)
    times = []
    until_s = time.perf_counter() + options.seconds
    while not times or time.perf_counter() < until_s:
        started_s = time.perf_counter()
        run(pixels)
        times.append(time.perf_counter() - started_s)
    return options.max_batch_size / float(np.quantile(times, 0.25))


def questions(config: NetworkConfig) -> dict[str, tuple[str, str]]:
    """Return which model is asked for which outputs, by how large the result is."""
    recipe = config.recipe
    asked = {"image": (recipe.name, recipe.outputs)}
    if recipe.raw_outputs:
        asked["network"] = recipe.raw_name, recipe.raw_outputs
    return {
        size: (model, ",".join(tensor.name for tensor in outputs)) for size, (model, outputs) in asked.items()
    }


def print_row(cells: Sequence[str], found: Load, bare: float, ceiling: float) -> None:
    """Print a line of the table.

    Args:
        cells: What was measured.
        found: What came of it.
        bare: Images per second of the engine alone.
        ceiling: Images per second at the rate of the fastest matrix product.
    """
    percentiles = np.percentile(found.latencies_ms, PERCENTILES)
    figures = [f"{found.per_second:.1f}", *(f"{value:.1f}" for value in percentiles)]
    shares = [f"{found.per_second / whole:.0%}" for whole in (bare, ceiling)]
    gpu = "-" if found.gpu is None else f"{found.gpu:.0%}"
    print(f"| {' | '.join([*cells, *figures, *shares, gpu, f'{found.cpu_ms:.1f}'])} |", flush=True)


def measure(config: NetworkConfig, runtime: Runtime, finish: Finish, options: argparse.Namespace) -> str:
    """Export a network, measure it alone and served, print lines of the table; return what to say below."""
    macs = network_cost(config, precision=options.precision).macs
    with tempfile.TemporaryDirectory() as folder:
        repository, photo = Path(folder) / "models", Path(folder) / "photo.jpg"
        photo.write_bytes(photograph(*options.image))
        serving = Serving(
            max_batch_size=options.max_batch_size,
            instances=options.instances,
            cpu_instances=options.cpu_instances,
            warmup=tuple(range(1, options.max_batch_size + 1)),
            finish=finish,
        )
        chosen = EngineOptions(runtime=runtime, precision=options.precision)
        export_engine(source_from_seed(config, 0), repository, chosen, serving=serving)
        engine = config.recipe.engine.name
        if reasons := refusals(repository, [engine]):
            return f"{runtime}: not served: {reasons[engine]}"
        file = repository / engine / VERSION_FOLDER / ENGINE_FILES[runtime]
        bare, ceiling = bare_per_second(file, runtime, config, options), options.macs_per_second / macs
        with serve(repository, grpc_port=0) as server:
            for (size, (model, outputs)), num_callers in product(questions(config).items(), options.callers):
                asked = (server.grpc_url, model, outputs, str(photo))
                found = load(asked, num_callers, options.seconds, server.pid)
                print_row([runtime, finish, size, str(num_callers)], found, bare, ceiling)
    return f"{runtime}: the engine alone {bare:.1f} images/s, the ceiling {ceiling:.1f} images/s"


def combinations(config: NetworkConfig, options: argparse.Namespace) -> Iterator[tuple[Runtime, Finish]]:
    """Return what is measured of a network, and say what this machine cannot build."""
    for runtime in options.runtime:
        try:
            check_buildable(runtime, options.precision)
        except (EngineUnavailableError, ValueError) as error:
            print(f"{runtime}: not built: {error}", file=sys.stderr)
            continue
        finishes = options.finish if config.recipe.torch_finish else ["cpu"]
        yield from ((runtime, finish) for finish in dict.fromkeys(finishes))


def networks(options: argparse.Namespace) -> list[NetworkConfig]:
    """Return the architectures that are measured."""
    tasks = [Task(name) for name in options.task]
    if options.network == "tiny":
        return [tiny_network(task) for task in tasks]
    return [released_network(task, size) for size in options.size for task in tasks]


def described(device: str) -> str:
    """Return what was measured on: device, driver, versions, date."""
    names = [f"{gpu.name}, driver {gpu.driver}" for gpu in gpus()] if device == "cuda" else ["CPU"]
    versions = f"torch {torch.__version__}"
    return f"{'; '.join(names)}, {os.cpu_count()} cores, {versions}, {time.strftime('%Y-%m-%d')}"


def image_size(text: str) -> tuple[int, int]:
    """Read a width and a height."""
    width, height = map(int, text.split("x"))
    return width, height


def parsed_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--network", choices=("released", "tiny"), default="released")
    parser.add_argument("--size", action="append", choices=list(FAMILIES["sapiens"].sizes))
    parser.add_argument("--task", action="append", choices=NETWORK_TASKS)
    parser.add_argument("--runtime", action="append", choices=get_args(Runtime))
    parser.add_argument("--finish", action="append", choices=("cpu", "gpu"))
    parser.add_argument("--precision", choices=list(DTYPES), default="bfloat16")
    parser.add_argument("--callers", action="append", type=int)
    parser.add_argument("--max-batch-size", type=int, default=Serving.max_batch_size)
    parser.add_argument("--instances", type=int, default=2, help="copies of the engine")
    parser.add_argument("--cpu-instances", type=int, default=max(2, (os.cpu_count() or 2) // 2))
    parser.add_argument("--image", type=image_size, default=(1080, 1440), metavar="WIDTHxHEIGHT")
    parser.add_argument("--seconds", type=float, default=5.0, help="of every measurement")
    options = parser.parse_args()
    options.size = options.size or ["0.3b"]
    options.task = options.task or ["depth", "normal", "seg", "pose"]
    options.runtime = options.runtime or list(get_args(Runtime))
    options.finish = options.finish or ["cpu", "gpu"]
    options.callers = options.callers or [1, 4, 16, 64]
    options.batch, options.rounds, options.calls = [options.max_batch_size], 10, 3  # of the ceiling
    return options


def main() -> None:
    """Measure and print Markdown."""
    options = parsed_options()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "--device cuda needs an NVIDIA GPU and a torch build with CUDA, "
            f"torch {torch.__version__} sees none; try --device cpu --network tiny"
        )
    print(described(options.device))
    for config in networks(options):
        with torch.no_grad():
            options.macs_per_second, shape = matmul_ceiling([config], options)
        print(f"\n### {config.task.value} {config.size}, {options.precision}, a product of {shape}\n")
        print(f"| {' | '.join(COLUMNS)} |")
        print("|---" * len(COLUMNS) + "|")
        below = [measure(config, *chosen, options) for chosen in combinations(config, options)]
        print("\n" + "\n".join(below))


if __name__ == "__main__":
    main()
