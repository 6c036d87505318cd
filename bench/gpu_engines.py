"""How fast a GPU runs the served networks, and how near that is to what its matrix multiplier can do.

    python bench/gpu_engines.py [--size 0.3b --size 1b] [--precision bfloat16] [--batch 1 --batch 4 --batch 8]
    python bench/gpu_engines.py --device cpu --network tiny    # the same path without a GPU

Weights are random, pixels lie on the device already and results stay there. Contenders take turns in every
round, a time is the lower quartile of the rounds. The ceiling is the fastest of the networks' own matrix
products in the same number format, measured in the same run; of tiny networks it says nothing. Every answer
is compared with that of the float32 network on the same device, without TF32; of pose the scores and the
blurred maxima, because where the peaks of an untrained network lie is a matter of rounding. Memory is the
peak of a call beyond the weights; a CUDA graph took its memory before.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sapiens_core.contract.engines import Precision
from sapiens_core.contract.tensors import PATCHES, PEAKS
from sapiens_core.recipes.lookup import FAMILIES, first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS, SAPIENS
from sapiens_export.engines.cost import network_cost
from sapiens_export.engines.reduced import DTYPES, ServedNetwork
from sapiens_export.engines.torchscript import torchscript_from_network
from sapiens_export.networks.config import NetworkConfig, released_network
from sapiens_export.networks.padding import padded_heads
from sapiens_export.networks.sapiens import SapiensNetwork
from sapiens_export.parity.images import parity_pixels
from sapiens_export.weights.checkpoints import random_network

NETWORK_TASKS = [str(task) for task in SAPIENS.recipes]
WARM_UP_CALLS = 2
MLP_RATIO = 4
COLUMNS = (
    "batch",
    "contender",
    "ms",
    "images/s",
    "TMAC/s",
    "of the ceiling",
    "largest error",
    "mean error",
    "memory",
)

Outputs = tuple[Tensor, ...]
Run = Callable[[Tensor], Outputs]


@dataclass(frozen=True)
class Row:
    """What one contender did with one batch.

    Attributes:
        contender: Its name.
        batch_size: Images per call.
        ms: Time of a call.
        max_error: Largest difference from float32, as a share of the output's range.
        mean_error: Mean difference, likewise.
        extra_bytes: Peak of the memory that a call takes; None: not known on this device.
    """

    contender: str
    batch_size: int
    ms: float
    max_error: float
    mean_error: float
    extra_bytes: int | None


def tiny_network(task: Task) -> NetworkConfig:
    """Return a network that a CPU runs in milliseconds."""
    released = released_network(task, "0.3b")
    num_outputs = 32 if task == Task.FEATURES else released.num_outputs
    small = {"embed_dim": 32, "num_layers": 2, "num_heads": 2, "head_channels": 8, "input_hw": (64, 48)}
    return replace(released, **small, num_outputs=num_outputs)


def contenders(network: SapiensNetwork, options: argparse.Namespace) -> dict[str, Run]:
    """Return what is measured: functions of (B, H, W, 3) uint8 pixels on the device."""
    served = served_network(padded_heads(network), options.precision)
    with tempfile.TemporaryDirectory() as folder:
        engine_file = Path(folder) / "model.pt"
        torchscript_from_network(served, network.config.input_hw, engine_file)
        engine = torch.jit.load(engine_file, map_location=options.device)
    eager = as_tuple(served.to(options.device))
    compiled = as_tuple(compiled_module(served, options.compiler))
    runs = {
        "TorchScript, as exported": plainly_executed(as_tuple(engine)),
        "eager": eager,
        "compiled": compiled,
    }
    if options.device == "cuda":
        runs |= {"eager, CUDA graph": as_cuda_graph(eager), "compiled, CUDA graph": as_cuda_graph(compiled)}
    return runs


def served_network(network: SapiensNetwork, precision: Precision = "float32") -> nn.Module:
    """Return a network as it is served."""
    return ServedNetwork(network, NORMALIZATIONS["full"], network.config.recipe, precision=precision).eval()


def compiled_module(module: nn.Module, compiler: str) -> Callable[[Tensor], Tensor | Outputs]:
    """Compile a module anew for every batch size."""
    if compiler == "inductor":
        return torch.compile(module, dynamic=False, mode="max-autotune-no-cudagraphs")
    return torch.compile(module, dynamic=False, backend=compiler)


def as_tuple(module: Callable[[Tensor], Tensor | Outputs]) -> Run:
    """Make one output a tuple of one."""

    def run(pixels: Tensor) -> Outputs:
        outputs = module(pixels)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return run


def plainly_executed(run: Run) -> Run:
    """Run TorchScript like the server: without the profiling executor, which compiles at the second call."""

    def plain(pixels: Tensor) -> Outputs:
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            return run(pixels)

    return plain


def as_cuda_graph(run: Run) -> Run:
    """Replay what a function did with its first input of this batch size."""
    captured: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Outputs]] = {}

    def capture(pixels: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Outputs]:
        own_pixels, graph, stream = pixels.clone(), torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_CALLS):
                run(own_pixels)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            outputs = run(own_pixels)
        return graph, own_pixels, outputs

    def replay(pixels: Tensor) -> Outputs:
        if len(pixels) not in captured:
            captured.clear()  # a graph keeps all the memory that a call takes
            captured[len(pixels)] = capture(pixels)
        graph, own_pixels, outputs = captured[len(pixels)]
        own_pixels.copy_(pixels)
        graph.replay()
        return outputs

    return replay


def milliseconds(call: Callable[[], object], device: str, num_calls: int) -> float:
    """Return the time of a call, by the GPU's own clock where there is one."""
    if device == "cpu":
        started = time.perf_counter()
        for _ in range(num_calls):
            call()
        return (time.perf_counter() - started) * 1e3 / num_calls
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(num_calls):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / num_calls


def interleaved_ms(calls: dict[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, float]:
    """Let all calls take turns, and return the lower quartile of each one's times."""
    for call in calls.values():
        for _ in range(WARM_UP_CALLS):
            call()
    rounds = [
        [milliseconds(call, options.device, options.calls) for call in calls.values()]
        for _ in range(options.rounds)
    ]
    return dict(zip(calls, np.quantile(rounds, 0.25, axis=0).tolist(), strict=True))


def matmul_ceiling(configs: list[NetworkConfig], options: argparse.Namespace) -> tuple[float, str]:
    """Return the fastest of the linear layers' products: multiply-accumulates per second, and its shape."""
    calls, macs = {}, {}
    for config in configs:
        num_tokens = max(options.batch) * config.grid_hw[0] * config.grid_hw[1]
        width = config.embed_dim
        for inputs, outputs in ((width, 3 * width), (width, MLP_RATIO * width), (MLP_RATIO * width, width)):
            name = f"{num_tokens} x {inputs} x {outputs}"
            left, right = (
                torch.randn(shape, device=options.device, dtype=DTYPES[options.precision])
                for shape in ((num_tokens, inputs), (inputs, outputs))
            )
            calls[name] = lambda left=left, right=right: left @ right
            macs[name] = num_tokens * inputs * outputs
    per_second = {name: macs[name] / ms * 1e3 for name, ms in interleaved_ms(calls, options).items()}
    fastest = max(per_second, key=per_second.__getitem__)
    return per_second[fastest], fastest


def errors(task: Task, outputs: Outputs, expected: Outputs) -> tuple[float, float]:
    """Return largest and mean difference as shares of the range, of the output where they are largest."""
    specs = first_recipe(task).engine.outputs
    compared = [
        (got.double(), wanted.double())
        for spec, got, wanted in zip(specs, outputs, expected, strict=True)
        if spec not in (PEAKS, PATCHES)
    ]
    shares = [(got - wanted).abs() / (wanted.max() - wanted.min()) for got, wanted in compared]
    return max(float(share.max()) for share in shares), max(float(share.mean()) for share in shares)


def extra_bytes(call: Callable[[], object], device: str) -> int | None:
    """Return the peak of the memory that a call takes."""
    if device == "cpu":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure(config: NetworkConfig, options: argparse.Namespace) -> Iterator[Row]:
    """Measure all contenders with all batch sizes."""
    network = random_network(config, seed=0)
    runs = contenders(network, options)
    reference = as_tuple(served_network(network).to(options.device))
    images = torch.from_numpy(parity_pixels(config.input_hw)).to(options.device)
    for batch_size in options.batch:
        pixels = images[torch.arange(batch_size) % len(images)]
        expected = reference(pixels)
        calls = {name: lambda run=run, pixels=pixels: run(pixels) for name, run in runs.items()}
        found = {name: errors(config.task, call(), expected) for name, call in calls.items()}
        del expected
        for name, ms in interleaved_ms(calls, options).items():
            yield Row(name, batch_size, ms, *found[name], extra_bytes(calls[name], options.device))


def print_table(config: NetworkConfig, rows: Iterator[Row], ceiling: float, precision: str) -> None:
    """Print one network's table."""
    cost = network_cost(config, precision=precision)
    print(f"\n### {config.task.value} {config.size}, {precision}: {cost.macs / 1e12:.4g} TMAC per image\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    for row in rows:
        images_per_s = row.batch_size / row.ms * 1e3
        macs_per_s = images_per_s * cost.macs
        cells = [
            str(row.batch_size),
            row.contender,
            f"{row.ms:.2f}",
            f"{images_per_s:.1f}",
            f"{macs_per_s / 1e12:.3g}",
            f"{macs_per_s / ceiling:.0%}",
            f"{row.max_error:.1e}",
            f"{row.mean_error:.1e}",
            "-" if row.extra_bytes is None else f"{row.extra_bytes / 2**20:.0f} MiB",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


@contextmanager
def clean_memory() -> Iterator[None]:
    """Give back what a network took before the next one comes."""
    yield
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def parsed_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--network", choices=("released", "tiny"), default="released")
    parser.add_argument("--size", action="append", choices=list(FAMILIES["sapiens"].sizes))
    parser.add_argument("--task", action="append", choices=NETWORK_TASKS)
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--precision", choices=list(DTYPES), default="bfloat16")
    parser.add_argument("--compiler", choices=("inductor", "aot_eager"), default="inductor")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=3, help="calls per round")
    options = parser.parse_args()
    options.size = options.size or ["0.3b", "1b"]
    options.task = options.task or NETWORK_TASKS
    options.batch = options.batch or [1, 4, 8]
    return options


def networks(options: argparse.Namespace) -> list[NetworkConfig]:
    """Return the architectures that are measured."""
    tasks = [Task(name) for name in options.task]
    if options.network == "tiny":
        return [tiny_network(task) for task in tasks]
    return [released_network(task, size) for size in options.size for task in tasks]


def main() -> None:
    """Measure and print Markdown."""
    options = parsed_options()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "--device cuda needs an NVIDIA GPU and a torch build with CUDA, "
            f"torch {torch.__version__} sees none; try --device cpu --network tiny"
        )
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device_name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    configs = networks(options)
    with torch.no_grad():
        ceiling, shape = matmul_ceiling(configs, options)
        print(f"{device_name}, torch {torch.__version__}")
        print(f"ceiling: {ceiling / 1e12:.3g} TMAC/s, a product of {shape}")
        for config in configs:
            with clean_memory():
                print_table(config, measure(config, options), ceiling, options.precision)


if __name__ == "__main__":
    main()
