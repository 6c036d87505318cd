"""Facts about GPUs and about what a request costs beside its network, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# What a network reaches of what the data sheet states. No GPU was at hand when this was written.
ASSUMED_SHARE = 0.4
# What a fleet is kept busy to: above it, waiting grows faster than the rate.
MOST_BUSY = 0.7
IMAGE_HW = (1080, 1440)  # of the tables that the costs below are from
IMAGE_BYTES = 267_000  # the JPEG that they were measured with: 0.27 MB
MEASURED_AT = "two shared virtual CPU cores, JPEG of 1080 x 1440; docs/performance.md, bench/overhead.py"
SERVER_BYTES = 428_000_000  # docs/faults.md, a client that is used for long: server and Python models
SHARED_MEMORY_BYTES = int(4.8 * 2**30)  # README, all tasks at the largest images that are allowed


@dataclass(frozen=True)
class Gpu:
    """What its maker states.

    Attributes:
        tflops: Trillions of floating-point operations per second of its matrix units in bfloat16, in float16
            where it has no bfloat16, without sparsity.
        memory_gb: Thousand million bytes.
        source: Where that stands.
    """

    tflops: float
    memory_gb: int
    source: str


def _gpu(tflops: float, memory_gb: int, name: str) -> Gpu:
    return Gpu(tflops, memory_gb, f"NVIDIA's data sheet of the {name}, without sparsity")


GPUS: Mapping[str, Gpu] = MappingProxyType(
    {
        "t4": _gpu(65, 16, "T4, float16"),
        "a10": _gpu(125, 24, "A10"),
        "l4": _gpu(121, 24, "L4"),
        "a100": _gpu(312, 80, "A100 80 GB"),
        "l40s": _gpu(362, 48, "L40S"),
        "h100": _gpu(989, 80, "H100 SXM"),
        "h200": _gpu(989, 141, "H200 SXM"),
    }
)

# Milliseconds of a core for one image, the network left out: compute_input, _infer and _output of the steps
# before and after the engine. Of tasks that are not here nothing was measured.
STEP_MS: Mapping[str, Mapping[str, tuple[float, float, float]]] = MappingProxyType(
    {
        "depth": {
            "dense_preprocess": (0.05, 6.22, 0.38),
            "depth_postprocess": (0.18, 1.45, 3.60),
        },
        "normal": {
            "dense_preprocess": (0.06, 6.10, 1.71),
            "normal_postprocess": (0.15, 10.17, 6.23),
        },
        "seg": {
            "dense_preprocess": (0.05, 5.95, 0.23),
            "seg_postprocess": (0.65, 54.41, 0.69),
        },
        "pose": {
            "pose_preprocess": (0.07, 8.48, 0.26),
            "pose_postprocess": (0.05, 1.76, 1.22),
        },
    }
)


def step_ms(task: str) -> float | None:
    """Return the milliseconds of a core for one image beside its network; None: never measured."""
    steps = STEP_MS.get(task)
    return sum(map(sum, steps.values())) if steps else None
