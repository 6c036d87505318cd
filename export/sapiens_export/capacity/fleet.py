"""A fleet for a rate of requests: every figure with where it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sapiens_core.contract.tensors import DTYPE_BYTES
from sapiens_core.recipes.lookup import recipe
from sapiens_export.capacity import facts
from sapiens_export.capacity.queueing import wait_quantile_s
from sapiens_export.engines.cost import network_cost

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sapiens_core.contract.tensors import TensorSpec
    from sapiens_export.engines.cost import NetworkCost
    from sapiens_export.networks.config import WeightsConfig

Basis = Literal["asked", "counted", "published", "measured", "assumed", "derived", "unknown"]

MOST_GPUS = 10_000
_P = 0.99
_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Wish:
    """What a fleet shall do.

    Attributes:
        rate: Images per second, of pose persons; the peak.
        gpu: Name in `facts.GPUS`.
        p99_s: What 99 of 100 answers shall take at most; None: it does not matter.
        share: What a network reaches of what the GPU's maker states; None: it was not measured.
        batch_size: Largest batch of the engine; it takes memory.
    """

    rate: float
    gpu: str
    p99_s: float | None = None
    share: float | None = None
    batch_size: int = 4


@dataclass(frozen=True)
class Figure:
    """One line of a plan.

    Attributes:
        name: What it is about.
        value: How much; None: nobody knows.
        unit: Of the value.
        basis: What kind of knowledge it is.
        source: Where it comes from.
    """

    name: str
    value: float | None
    unit: str
    basis: Basis
    source: str


def fleet_plan(config: WeightsConfig, wish: Wish) -> list[Figure]:
    """Tell what a rate of requests takes.

    Args:
        config: The network.
        wish: What the fleet shall do.

    Raises:
        ValueError: A wish cannot be met by any number of these GPUs, or is no sensible one.
    """
    _check(wish)
    cost = network_cost(config, batch_size=wish.batch_size, precision="bfloat16")
    macs = cost.macs / wish.batch_size
    gpu, share = facts.GPUS[wish.gpu], wish.share or facts.ASSUMED_SHARE
    per_gpu = gpu.tflops * 1e12 * share / (2 * macs)
    num_gpus = _num_gpus(per_gpu, config.task, wish)
    return [
        Figure("rate", wish.rate, _unit(config.task) + "/s", "asked", "--rate"),
        Figure(
            "network",
            macs / 1e12,
            "TMAC per image",
            "counted",
            "on its layers' shapes; bench/network_cost.py",
        ),
        Figure("GPU", gpu.tflops, "TFLOPS", "published", gpu.source),
        _share(wish),
        Figure("of one GPU", per_gpu, _unit(config.task) + "/s", "derived", "GPU x share / (2 x network)"),
        Figure("GPUs", num_gpus, "", "derived", _why(wish)),
        Figure(
            "busy", wish.rate / (num_gpus * per_gpu), "of their time", "derived", "rate / (GPUs x of one)"
        ),
        _p99(config.task, wish.rate, per_gpu, num_gpus),
        *_memory(cost, gpu, wish),
        *_around(config, wish, cost, num_gpus),
    ]


def _check(wish: Wish) -> None:
    if not 0 < wish.rate < math.inf:
        raise ValueError(f"rate must be positive, got {wish.rate:g}; say how many images come per second")
    if wish.gpu not in facts.GPUS:
        raise ValueError(f"gpu must be one of {', '.join(facts.GPUS)}, got {wish.gpu!r}")
    if wish.share is not None and not 0 < wish.share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {wish.share:g}")


def _unit(task: str) -> str:
    return "persons" if task == "pose" else "images"


def _share(wish: Wish) -> Figure:
    if wish.share is not None:
        return Figure("share", wish.share, "of what is published", "measured", "--share")
    return Figure(
        "share",
        facts.ASSUMED_SHARE,
        "of what is published",
        "assumed",
        "never measured; bench/gpu_engines.py prints TMAC/s: --share is twice that through TFLOPS",
    )


def _why(wish: Wish) -> str:
    busy = f"at most {facts.MOST_BUSY:.0%} busy"
    return f"{busy}, and p99 <= {wish.p99_s:g} s" if wish.p99_s else busy


def _num_gpus(per_gpu: float, task: str, wish: Wish) -> int:
    fewest = math.ceil(wish.rate / (facts.MOST_BUSY * per_gpu))
    if fewest > MOST_GPUS:
        raise ValueError(f"this takes more than {MOST_GPUS} GPUs; lower --rate, or take a smaller network")
    if wish.p99_s is None:
        return fewest
    unloaded_s = _unloaded_s(task, per_gpu)
    if wish.p99_s < unloaded_s:
        raise ValueError(
            f"p99 must be at least {unloaded_s:.3f} s, what an answer takes without waiting, got "
            f"{wish.p99_s:g} s; take a smaller network or a faster GPU"
        )
    return next(
        (
            count
            for count in range(fewest, MOST_GPUS)
            if _answered_s(task, wish.rate, per_gpu, count) <= wish.p99_s
        ),
        MOST_GPUS,
    )


def _unloaded_s(task: str, per_gpu: float) -> float:
    return 1 / per_gpu + (facts.step_ms(task) or 0) / 1e3


def _answered_s(task: str, rate: float, per_gpu: float, num_gpus: int) -> float:
    return wait_quantile_s(num_gpus, rate, 1 / per_gpu, _P) + _unloaded_s(task, per_gpu)


def _p99(task: str, rate: float, per_gpu: float, num_gpus: int) -> Figure:
    return Figure(
        "p99",
        _answered_s(task, rate, per_gpu, num_gpus),
        "s",
        "derived",
        "waiting (Erlang C, for constant times), network, steps on the CPU where measured; not the way "
        "there and back; bench/fleet_simulation.py plays it",
    )


def _memory(cost: NetworkCost, gpu: facts.Gpu, wish: Wish) -> list[Figure]:
    needed = (cost.weight_bytes + cost.activation_bytes) / 1e9
    if needed > gpu.memory_gb:
        raise ValueError(
            f"a GPU must have more than {needed:.1f} GB for this network and batches of {wish.batch_size}, a "
            f"{wish.gpu} has {gpu.memory_gb} GB; take another, or --batch-size 1"
        )
    return [
        Figure(
            "GPU memory",
            needed,
            f"GB of {gpu.memory_gb}",
            "counted",
            "weights and activations, bfloat16; CUDA comes on top",
        ),
        Figure(
            "memory",
            (facts.SERVER_BYTES + cost.num_parameters * 4) / 1e9,
            "GB per server",
            "derived",
            "a server of small networks (measured: docs/faults.md) and the float32 weights, to load them",
        ),
        Figure(
            "/dev/shm",
            facts.SHARED_MEMORY_BYTES / 1e9,
            "GB per server",
            "counted",
            "at most: all tasks, largest images; sapiens doctor counts a repository's",
        ),
    ]


def _around(config: WeightsConfig, wish: Wish, cost: NetworkCost, num_gpus: int) -> list[Figure]:
    result = _result_bytes(config)
    size = f"{facts.IMAGE_HW[0]} x {facts.IMAGE_HW[1]}"
    sent, returned = wish.rate * facts.IMAGE_BYTES, wish.rate * result
    return [
        *_cores(facts.step_ms(config.task), wish.rate),
        Figure("network in", sent * 8 / 1e9, "Gbit/s", "derived", f"a JPEG of {size}, 0.27 MB"),
        Figure(
            "network out",
            returned * 8 / 1e9,
            "Gbit/s",
            "counted",
            f"results for {size}, {result / 1e6:.2f} MB each",
        ),
        Figure(
            "engines",
            num_gpus * cost.weight_bytes / 1e9,
            "GB of disk",
            "counted",
            "a file in bfloat16 for each GPU",
        ),
        Figure(
            "results",
            returned * _SECONDS_PER_DAY / 1e12,
            "TB a day",
            "counted",
            "if all are kept as they come",
        ),
    ]


def _cores(step_ms: float | None, rate: float) -> list[Figure]:
    unknown = "never measured for this task; bench/overhead.py measures"
    if step_ms is None:
        return [Figure("CPU cores", None, "", "unknown", unknown)]
    cores = math.ceil(rate * step_ms / 1e3 / facts.MOST_BUSY)
    return [
        Figure("CPU", step_ms, "ms of a core per image", "measured", facts.MEASURED_AT),
        Figure(
            "CPU cores", cores, "", "derived", f"at most {facts.MOST_BUSY:.0%} busy; clients have their own"
        ),
    ]


def _result_bytes(config: WeightsConfig) -> int:
    """Return the bytes of what comes back for one image, of pose for one person."""
    spec = recipe(config.family, config.task)
    sizes = {"C": config.num_outputs, **dict(zip("hw", config.output_hw, strict=True))}
    return sum(DTYPE_BYTES[tensor.dtype] * math.prod(_dims(tensor, sizes)) for tensor in spec.outputs)


def _dims(tensor: TensorSpec, sizes: Mapping[str, int]) -> Iterator[int]:
    """Yield the shape of one item of a tensor; what is free is the image's height, then its width."""
    free = iter(facts.IMAGE_HW)
    for dim in tensor.dims:
        yield sizes[dim] if isinstance(dim, str) else next(free) if dim < 0 else dim
