"""What an engine computes in: what was said, or the fastest of what comes into question."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from sapiens_export.engines.load import default_device

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sapiens_core.contract.engines import Precision, PrecisionChoice, Runtime
    from sapiens_export.engines.engine import Engine

# Of an engine's limits, where its precision was not said: whoever did not ask for it shall not see it.
AUTO_SHARE = 0.5
_BFLOAT16_CAPABILITY = (8, 0)
_NUM_TIMED = 5


def is_auto(runtime: Runtime, wanted: PrecisionChoice | None) -> bool:
    """Return whether the fastest precision is looked for: where that was asked, or a GPU will compute.

    Args:
        runtime: What runs the engine. TensorRT's are bfloat16 unless said otherwise, as building one is long.
        wanted: What was said; None: nothing.
    """
    is_default = wanted is None and runtime != "tensorrt" and default_device(runtime) == "cuda"
    return wanted == "auto" or is_default


def precisions(runtime: Runtime, wanted: PrecisionChoice | None) -> tuple[Precision, ...]:
    """Return what an engine may compute in; of several, the fastest that is close enough is taken.

    Args:
        runtime: What runs it.
        wanted: What was said; None: nothing.
    """
    if is_auto(runtime, wanted):
        return ("float16", "bfloat16") if _computes_bfloat16(runtime) else ("float16",)
    if wanted is None or wanted == "auto":
        return ("bfloat16",) if runtime == "tensorrt" else ("float32",)
    return (wanted,)


def batch_seconds(engine: Engine, pixels: NDArray[np.uint8]) -> float:
    """Return how long an engine takes for a batch, the shortest of some runs after a first one.

    Args:
        engine: (B, H, W, 3) uint8 RGB to arrays.
        pixels: The batch.
    """
    engine(pixels)
    times = [time.perf_counter()]
    for _ in range(_NUM_TIMED):
        engine(pixels)
        times.append(time.perf_counter())
    return min(end - start for start, end in pairwise(times))


def _computes_bfloat16(runtime: Runtime) -> bool:
    is_old = torch.cuda.is_available() and torch.cuda.get_device_capability() < _BFLOAT16_CAPABILITY
    return runtime != "onnx" and not is_old
