"""What serving costs: an ensemble against the same pipeline in one process.

    python bench/overhead.py [--task seg] [--family sapiens2] [--rounds 12] [--size 1080x1440] [--instances 2]

Everything shares one machine and one run; contenders take turns in every round. Latency is the lower quartile
and throughput the upper quartile of the rounds. Networks: "tiny" is a network of the family with one block,
"free" costs next to nothing and so hides nothing; with a released network the ratios come closer to 1.
The caller runs with glibc's defaults, unless the environment says otherwise.

  in-process               the same functions, the same engine file, one process, same malloc settings
  ensemble                 JPEG in, the result out, at image size where it is a map; all in messages
  ensemble, shared memory  the SDK with `output="image"`: the same through memory shared with the server
  SDK                      as it comes: it also chooses who makes the map as large as the image
  ensemble, network size   `depth_raw`: JPEG in, the engine's output out; base: in-process without last resize
  classic contract         depth with float32 tensors between the steps, float32 at image size out
  client-side preprocess   depth with uint8 pixels to the engine, decoding and final resize at the client
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import tritonclient.grpc as triton
from measure import Sample, load, process_tree, summary
from torch import nn

from sapiens_client import ClientOptions, SapiensClient
from sapiens_client.deadline import Deadline
from sapiens_client.tensors import TensorClient
from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.settings import StepSettings
from sapiens_core.contract.tensors import DTYPE_BYTES
from sapiens_core.finish.depth import image_depth
from sapiens_core.images.codec import decode_bgr
from sapiens_core.prepare.image import image_inputs
from sapiens_core.recipes.lookup import FAMILIES, first_recipe, recipe
from sapiens_core.recipes.recipe import Recipe, Task
from sapiens_core.recipes.sapiens2 import FAMILY as SECOND
from sapiens_export.exporter import export_engine
from sapiens_export.networks.config import NetworkConfig
from sapiens_export.networks.sapiens2_config import HeadConfig, Sapiens2NetworkConfig
from sapiens_export.repository.serving import Serving
from sapiens_export.weights.sources import Source, source_from_seed
from sapiens_server import serve
from sapiens_server.launch import ENVIRONMENT

INPUT_HW = first_recipe(Task.DEPTH).network_hw
CONCURRENCIES = (1, 4, 8)
CALLS_PER_ROUND = {1: 6, 4: 16, 8: 24}
BY_SDK = (Task.DEPTH, Task.NORMAL, Task.SEG)
BASELINES = {"ensemble, network size": "in-process, network size"}
PHASES = ("queue", "compute_input", "compute_infer", "compute_output")
CLASSIC = Path(__file__).parent / "classic_repository"
PHOTO = Path(__file__).parents[1] / "assets" / "eileen_collins.jpg"


class FreeNetwork(nn.Module):
    """The mean of the channels at output size, times a number per output: hardly any work.

    Args:
        stride: Pixels of the input per cell of the output.
        num_outputs: Channels of the output.
        has_scale: A number for the whole image comes with it, as with a pointmap.
    """

    factors: torch.Tensor

    def __init__(self, stride: int, num_outputs: int, *, has_scale: bool = False) -> None:
        super().__init__()
        self.stride = stride
        self.has_scale = has_scale
        factors = torch.randn(1, num_outputs, 1, 1, generator=torch.Generator().manual_seed(0))
        self.register_buffer("factors", factors)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        outputs = nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True), self.stride) * self.factors
        return (outputs, torch.ones(images.shape[0], 1)) if self.has_scale else outputs


def tiny_config(spec: Recipe) -> NetworkConfig | Sapiens2NetworkConfig:
    """Return the smallest architecture of a task that takes and returns as much as the released ones."""
    task, variant = spec.task, spec.variants[0]
    if spec.family != SECOND:
        return NetworkConfig(
            "sapiens", task, 16, 1, 1, variant.patch_padding, INPUT_HW, 1, variant.num_outputs, variant.labels
        )
    scale = ((4, 4, 4), (4, 4)) if task == Task.POINTMAP else ()
    head = {
        Task.POSE: HeadConfig((4, 4), (4, 4, 4)),
        Task.SEG: HeadConfig((4, 4, 4, 4), (4, 4)),
        Task.FEATURES: None,
    }.get(task, HeadConfig((4, 4, 4, 4), (4, 4, 4), True, *scale))
    sizes = (16, 1, 2, 1, 16, variant.num_outputs)
    return Sapiens2NetworkConfig(SECOND, task, INPUT_HW, *sizes, head, variant.labels)


def write_repository(folder: Path, spec: Recipe, network_name: str, *, num_engines: int = 1) -> None:
    """Write the product's models, and for depth the classic ones around the same network."""
    config = tiny_config(spec)
    source = source_from_seed(config, 0)
    if network_name == "free":
        has_scale = len(spec.engine.outputs) > 1 and spec.reduction == "map"
        free = FreeNetwork(spec.output_stride, spec.variants[0].num_outputs, has_scale=has_scale)
        source = Source(free.eval(), config, checkpoint_sha256=None)
    export_engine(source, folder, serving=Serving(instances=num_engines))
    if spec.task == Task.DEPTH:
        shutil.copytree(CLASSIC, folder, dirs_exist_ok=True)
        images = torch.zeros(2, 3, *INPUT_HW)
        with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
            traced = torch.jit.trace(source.network, images, check_trace=False)
        traced.save(folder / "classic_engine" / "1" / ENGINE_FILES["python"])


def photograph(width: int, height: int) -> bytes:
    """Return a JPEG of this size, made of the project's photograph and some sensor noise."""
    photo = cv2.resize(cv2.imread(str(PHOTO)), (width, height), interpolation=cv2.INTER_CUBIC).astype(
        np.int16
    )
    photo += np.random.default_rng(0).normal(0, 3, photo.shape).astype(np.int16)
    _, jpeg = cv2.imencode(".jpg", np.clip(photo, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return jpeg.tobytes()


class InProcess:
    """The pipeline in a child process with the server's environment."""

    def __init__(self, family: str, engine_file: Path, image_file: Path) -> None:
        command = [sys.executable, Path(__file__).with_name("in_process.py"), family, engine_file, image_file]
        self._child = subprocess.Popen(
            [*command, *map(str, INPUT_HW)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**ENVIRONMENT, **os.environ},
        )

    def round(self, result: str, concurrency: int, num_calls: int) -> Sample:
        """Let the child make `num_calls` calls."""
        self._child.stdin.write(f"{result} {concurrency} {num_calls}\n")
        self._child.stdin.flush()
        return Sample(**json.loads(self._child.stdout.readline()))

    def close(self) -> None:
        """End the child."""
        self._child.stdin.close()
        self._child.wait()


def request(transport: TensorClient, model: str, output: str, **arrays: np.ndarray) -> np.ndarray:
    """Call a model the way the SDK does and return one of its outputs."""
    return transport.infer(model, arrays, [output], Deadline.after(60)).arrays[output]


def client_side(transport: TensorClient, image: np.ndarray) -> np.ndarray:
    """Do everything but the network at the client."""
    decoded = decode_bgr(image)
    depth_map = request(
        transport, "depth_engine", "depth_map", pixels=image_inputs(decoded, StepSettings(INPUT_HW, 1)).pixels
    )
    return image_depth(depth_map[0, 0], decoded.shape[:2])


def served_contenders(
    spec: Recipe, transport: TensorClient, url: str, image: np.ndarray
) -> dict[str, Callable[[], object]]:
    """Return one call of every contender that uses the server."""
    output = spec.outputs[0].name
    calls: dict[str, Callable[[], object]] = {
        "ensemble": partial(request, transport, spec.task.value, output, image=image)
    }
    if spec.task in BY_SDK:
        for name, options in {
            "ensemble, shared memory": ClientOptions(output="image"),
            "SDK": ClientOptions(),
        }.items():
            client = SapiensClient(url, timeout_s=60, options=options)
            calls[name] = partial(getattr(client, spec.task.value), image.tobytes())
    if spec.task == Task.DEPTH:
        calls["ensemble, network size"] = partial(request, transport, "depth_raw", "depth_map", image=image)
        calls["classic contract"] = partial(request, transport, "classic", "depth", image=image)
        calls["client-side preprocess"] = partial(client_side, transport, image)
    return calls


@dataclass(frozen=True)
class Bench:
    """A running server and everything that takes part."""

    spec: Recipe
    contenders: Mapping[str, Callable[[int, int], Sample]]
    url: str
    transport: TensorClient
    image: np.ndarray


@contextmanager
def prepared(spec: Recipe, network: str, num_engines: int, jpeg: bytes) -> Iterator[Bench]:
    """Start the server and the in-process child for one network and one image."""
    with tempfile.TemporaryDirectory() as folder:
        repository, image_file = Path(folder, "models"), Path(folder, "image.jpg")
        write_repository(repository, spec, network, num_engines=num_engines)
        image_file.write_bytes(jpeg)
        image = np.frombuffer(jpeg, np.uint8)
        with serve(repository, grpc_port=0) as server:
            transports = [TensorClient(server.grpc_url) for _ in range(max(CONCURRENCIES))]
            calls = [served_contenders(spec, each, server.grpc_url, image) for each in transports]
            pids = [os.getpid(), *process_tree(server.pid)]
            engine_file = repository / spec.engine.name / "1" / ENGINE_FILES["python"]
            child = InProcess(spec.family, engine_file, image_file)
            contenders: dict[str, Callable[[int, int], Sample]] = {
                "in-process": partial(child.round, spec.task.value)
            }
            if spec.task == Task.DEPTH:
                contenders["in-process, network size"] = partial(child.round, "depth_raw")
            for name in calls[0]:
                contenders[name] = partial(served_round, [caller[name] for caller in calls], pids)
            yield Bench(spec, contenders, server.grpc_url, transports[0], image)
            child.close()


def served_round(
    calls: list[Callable[[], object]], pids: list[int], concurrency: int, num_calls: int
) -> Sample:
    """Make `num_calls` calls over as many channels as callers."""
    return load(calls[:concurrency], num_calls, pids)


def measured(bench: Bench, concurrency: int, rounds: int) -> dict[str, Sample]:
    """Let all contenders take turns; the first round only warms up."""
    samples: dict[str, list[Sample]] = {name: [] for name in bench.contenders}
    for _ in range(rounds + 1):
        for name, run in bench.contenders.items():
            samples[name].append(run(concurrency, CALLS_PER_ROUND[concurrency]))
    return {name: summary(taken[1:]) for name, taken in samples.items()}


def stage_times(bench: Bench, num_calls: int = 20) -> dict[str, dict[str, float]]:
    """Return model -> phase -> milliseconds per request at one caller, by the server's statistics."""
    spec, client = bench.spec, triton.InferenceServerClient(bench.url)
    before = phase_totals(client)
    for _ in range(num_calls):
        request(bench.transport, spec.task.value, spec.outputs[0].name, image=bench.image)
    after = phase_totals(client)
    return {
        model: {phase: (after[model][phase] - before[model][phase]) / num_calls for phase in PHASES}
        for model in (spec.preprocess.name, spec.engine.name, spec.postprocess.name)
    }


def phase_totals(client: triton.InferenceServerClient) -> dict[str, dict[str, float]]:
    """Return model -> phase -> milliseconds since the server started."""
    return {
        model.name: {phase: getattr(model.inference_stats, phase).ns / 1e6 for phase in PHASES}
        for model in client.get_inference_statistics().model_stats
    }


def print_samples(concurrency: int, samples: Mapping[str, Sample]) -> None:
    """Print one Markdown table of ratios, with absolute figures beside them."""
    columns = "latency | throughput | CPU | page faults/call, server | caller | ms | calls/s | CPU ms"
    print(f"\n| {concurrency} caller(s) | {columns} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, sample in samples.items():
        base = samples[name if name.startswith("in-process") else BASELINES.get(name, "in-process")]
        cells = [
            f"x{sample.latency_ms / base.latency_ms:.2f}",
            f"x{sample.per_second / base.per_second:.2f}",
            f"x{sample.cpu_ms / base.cpu_ms:.2f}",
            "" if name.startswith("in-process") else f"{sample.page_faults - sample.caller_page_faults:.0f}",
            f"{sample.caller_page_faults:.0f}",
            f"{sample.latency_ms:.1f}",
            f"{sample.per_second:.1f}",
            f"{sample.cpu_ms:.1f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def print_stages(stages: Mapping[str, Mapping[str, float]]) -> None:
    """Print the stage split as a Markdown table."""
    print(f"\n| ms per request, 1 caller | {' | '.join(PHASES)} |")
    print("|---|---|---|---|---|")
    for model, phases in stages.items():
        print(f"| {model} | {' | '.join(f'{phases[phase]:.2f}' for phase in PHASES)} |")


def print_tensors(spec: Recipe) -> None:
    """Print how much passes between the steps for one image, or one person."""
    network_hw = dict(zip("HW", INPUT_HW, strict=True))
    sizes = {**network_hw, **{side.lower(): n // spec.output_stride for side, n in network_hw.items()}}
    sizes["C"] = spec.variants[0].num_outputs
    tensors = {
        tensor.name: math.prod(sizes.get(n, n) for n in tensor.dims) * DTYPE_BYTES[tensor.dtype]
        for tensor in (*spec.engine.inputs, *spec.engine.outputs)
    }
    told = ", ".join(f"{name} {num_bytes / 1e6:.1f}" for name, num_bytes in tensors.items())
    print(f"\nMB between the steps: {told}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--task", type=Task, default=Task.DEPTH, help="depth, normal, seg, pose, pointmap, ..."
    )
    parser.add_argument("--family", choices=FAMILIES, help="default: the first that has the task")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--size", action="append", help="WIDTHxHEIGHT of the JPEG; repeatable")
    parser.add_argument("--network", action="append", choices=["tiny", "free"], help="repeatable")
    parser.add_argument("--instances", type=int, default=1, help="copies of the engine")
    options = parser.parse_args()
    spec = recipe(options.family, options.task) if options.family else first_recipe(options.task)
    for network in options.network or ["tiny", "free"]:
        for size in options.size or ["1080x1440", "3000x4000"]:
            width, height = map(int, size.split("x"))
            with prepared(spec, network, options.instances, photograph(width, height)) as bench:
                title = f"{options.task}{' of sapiens2' if spec.family == SECOND else ''}, network {network}"
                print(f"\n### {title}, JPEG of {width} x {height} pixels")
                for concurrency in CONCURRENCIES:
                    print_samples(concurrency, measured(bench, concurrency, options.rounds))
                print_stages(stage_times(bench))
                print_tensors(spec)


if __name__ == "__main__":
    main()
