"""The GPU benchmark's whole path, on the CPU and with tiny networks."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def bench(*options):
    command = [sys.executable, ROOT / "bench" / "gpu_engines.py", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_the_benchmark_measures_every_contender_on_the_cpu():
    few = ("--task", "pose", "--batch", "2", "--rounds", "1", "--calls", "1", "--compiler", "aot_eager")
    finished = bench("--device", "cpu", "--network", "tiny", *few)
    assert finished.returncode == 0, finished.stderr
    rows = [line.split(" | ") for line in finished.stdout.splitlines() if line.startswith("| 2 |")]
    assert [row[1] for row in rows] == ["TorchScript, as exported", "eager", "compiled"]
    assert all(0 < float(row[6]) < 0.05 for row in rows), "bfloat16 is near float32, and not the same"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_sentence():
    finished = bench("--size", "0.3b")
    assert finished.returncode == 1
    assert finished.stderr.startswith("--device cuda needs an NVIDIA GPU")
    assert finished.stderr.count("\n") == 1
