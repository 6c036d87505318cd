"""What one Python step inside an ensemble costs, and how long a server takes to start.

    python bench/hop.py [--rounds 200]

A hop is half the difference between an ensemble of three do-nothing Python models and one of a single model.
Start-up is the time until five preprocessors of one instance each are ready.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from sapiens_client.deadline import Deadline
from sapiens_client.tensors import TensorClient
from sapiens_server import serve

PREPROCESS = Path(__file__).parents[1] / "model_repository" / "dense_preprocess"
PAYLOADS = {"16 bytes": 16, "2.4 MB (pixels at network size)": 1024 * 768 * 3}
TENSORS = """
input [ { name: "x" data_type: TYPE_UINT8 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_UINT8 dims: [ -1 ] } ]
"""
PASS_ON = """
from sapiens_core.triton.respond import respond


class TritonPythonModel:
    def execute(self, requests):
        return respond(requests, ("x",), lambda x: {"y": x})
"""
LAST = PASS_ON.replace('{"y": x}', '{"y": x[:16]}')


def write_model(folder: Path, config: str, code: str = "") -> None:
    """Write one model with tensors x and y."""
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(f'name: "{folder.name}"\n{config}{TENSORS}')
    if code:
        (folder / "1" / "model.py").write_text(code)


def write_chains(repository: Path) -> None:
    """Write ensembles of one and of three steps; their replies are short, so that only hops differ."""
    for name, code in {"pass_1": PASS_ON, "pass_2": PASS_ON, "last": LAST}.items():
        write_model(repository / name, 'backend: "python"\ninstance_group [ { kind: KIND_CPU } ]', code)
    for models in (["last"], ["pass_1", "pass_2", "last"]):
        names = ["x", *(f"t{index}" for index in range(1, len(models))), "y"]
        steps = ", ".join(
            f'{{ model_name: "{model}" model_version: -1 input_map {{ key: "x" value: "{names[index]}" }} '
            f'output_map {{ key: "y" value: "{names[index + 1]}" }} }}'
            for index, model in enumerate(models)
        )
        ensemble = f'platform: "ensemble"\nensemble_scheduling {{ step [ {steps} ] }}'
        write_model(repository / f"chain_{len(models)}", ensemble)


def hop_ms(transport: TensorClient, num_bytes: int, rounds: int) -> float:
    """Return the time of one hop, from interleaved calls and their lower quartiles."""
    payload = np.zeros(num_bytes, np.uint8)
    times: dict[str, list[float]] = {"chain_1": [], "chain_3": []}
    for _ in range(rounds):
        for model, taken in times.items():
            started = time.perf_counter()
            transport.infer(model, {"x": payload}, ["y"], Deadline.after(60))
            taken.append(time.perf_counter() - started)
    short, long = (np.quantile(taken[rounds // 10 :], 0.25) for taken in times.values())
    return float(long - short) / 2 * 1e3


def start_s(folder: Path) -> float:
    """Return the time until five preprocessors are ready."""
    for index in range(5):
        model = folder / f"preprocess_{index}"
        shutil.copytree(PREPROCESS, model)
        config = model / "config.pbtxt"
        text = config.read_text().replace('name: "dense_preprocess"', f'name: "{model.name}"')
        config.write_text(text.replace("count: 2", "count: 1"))
    started = time.perf_counter()
    with serve(folder, grpc_port=0):
        return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        write_chains(Path(folder))
        with serve(folder, grpc_port=0) as server:
            transport = TensorClient(server.grpc_url)
            for name, num_bytes in PAYLOADS.items():
                print(f"one hop, {name}: {hop_ms(transport, num_bytes, rounds):.2f} ms")
    with tempfile.TemporaryDirectory() as folder:
        print(f"server with five preprocessors ready after {start_s(Path(folder)):.2f} s")


if __name__ == "__main__":
    main()
