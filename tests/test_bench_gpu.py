"""The GPU benchmark's whole path, on the CPU and with tiny networks."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def bench(*options, script="gpu_engines.py"):
    command = [sys.executable, ROOT / "bench" / script, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_the_benchmark_measures_every_contender_on_the_cpu():
    few = ("--task", "pose", "--batch", "2", "--rounds", "1", "--calls", "1", "--compiler", "aot_eager")
    finished = bench("--device", "cpu", "--network", "tiny", *few)
    assert finished.returncode == 0, finished.stderr
    rows = [line.split(" | ") for line in finished.stdout.splitlines() if line.startswith("| 2 |")]
    assert [row[1] for row in rows] == ["TorchScript, as exported", "eager", "compiled"]
    assert all(0 < float(row[6]) < 0.05 for row in rows), "bfloat16 is near float32, and not the same"


def test_the_served_path_is_measured_on_the_cpu():
    few = ("--task", "seg", "--runtime", "python", "--runtime", "tensorrt", "--finish", "gpu")
    small = ("--callers", "1", "--callers", "3", "--seconds", "0.2", "--image", "64x48")
    cpu = ("--device", "cpu", "--network", "tiny", "--precision", "float32")
    finished = bench(*cpu, *few, *small, script="gpu_served.py")
    assert finished.returncode == 0, finished.stderr
    rows = [line.split(" | ") for line in finished.stdout.splitlines() if line.startswith("| python |")]
    assert [row[1:4] for row in rows] == [
        ["gpu", size, callers] for size in ("image", "network") for callers in ("1", "3")
    ]
    for row in rows:
        per_second, p50, p95, p99 = map(float, row[4:8])
        assert per_second > 0 < p50 <= p95 <= p99
        assert row[10] == "-", "there is no GPU"
    assert "python: the engine alone" in finished.stdout
    assert "tensorrt: not built: a TensorRT engine" in finished.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("script", ["gpu_engines.py", "gpu_served.py"])
def test_a_missing_gpu_is_one_sentence(script):
    finished = bench("--size", "0.3b", script=script)
    assert finished.returncode == 1
    assert finished.stderr.startswith("--device cuda needs an NVIDIA GPU")
    assert finished.stderr.count("\n") == 1
