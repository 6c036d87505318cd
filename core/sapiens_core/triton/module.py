"""How a network is run: the one way, in the served engine and wherever an engine is compared with it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.triton.package import loaded_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Module = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]

_PACKAGE_SUFFIX = ENGINE_FILES["aoti"].removeprefix("model")
_NUM_TIMED = 5  # runs, of which the fastest tells whether a graph pays


def loaded_module(path: Path, device: torch.device | str) -> Module:
    """Load an engine file onto a device.

    Args:
        path: TorchScript, or an AOTInductor package.
        device: Where it is to run, such as "cuda:0".

    Raises:
        ValueError: A package is compiled for another machine, see `loaded_package`.
    """
    if path.suffix == _PACKAGE_SUFFIX:
        return loaded_package(path, torch.device(device))
    module: torch.jit.ScriptModule = torch.jit.load(path, map_location=device)
    return module


class Runner:
    """A network on a device, as a function on batches in the memory of the CPU.

    On a GPU pixels and outputs pass through pinned memory, and a batch waits for the GPU once, at its end.

    Args:
        module: Uint8 pixels to an engine's outputs, both on the device.
        device: Where to compute.
        is_exact: The same pixels give the same numbers each time, for comparisons; else the fastest of
            cuDNN's algorithms are taken, and prepared batches may be replayed as CUDA graphs.
    """

    def __init__(self, module: Module, device: torch.device | str, *, is_exact: bool = False) -> None:
        self._module, self._device, self._is_exact = module, torch.device(device), is_exact
        self._graphs: dict[int, _Graph] = {}

    def __call__(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Return the network's outputs.

        Args:
            pixels: (B, H, W, 3) uint8, RGB, in the memory of the CPU.

        Returns:
            The outputs in their order, B first, in the memory of the CPU.
        """
        with _numerics(is_exact=self._is_exact):
            if self._device.type == "cpu":
                return [output.cpu() for output in self._computed(pixels)]
            with torch.cuda.device(self._device):
                graph = self._graphs.get(len(pixels))
                return _fetched(graph(pixels.pin_memory()) if graph else self._computed(self._sent(pixels)))

    def prepare(self, pixels: torch.Tensor) -> None:
        """Compute a batch, so that later ones of its size take no longer than others.

        On a GPU that size is replayed as a CUDA graph from then on, if that works, gives the same, and pays.

        Args:
            pixels: (B, H, W, 3) uint8, as for a call.
        """
        expected = self(pixels)
        if self._device.type == "cpu" or self._is_exact:
            return
        plain_s = self._fastest_s(pixels)
        graph = self._recorded(pixels)
        if graph is None:
            return
        self._graphs[len(pixels)] = graph
        is_same = all(map(torch.equal, self(pixels), expected))
        if not is_same or self._fastest_s(pixels) >= plain_s:
            del self._graphs[len(pixels)]

    def is_device_well(self) -> bool:
        """Return whether the device still answers; after some errors a GPU refuses whatever it is asked."""
        if self._device.type == "cpu":
            return True
        try:
            torch.cuda.synchronize(self._device)
        except RuntimeError:
            return False
        return True

    def _computed(self, pixels: torch.Tensor) -> Sequence[torch.Tensor]:
        results = self._module(pixels)
        return results if isinstance(results, tuple) else (results,)

    def _sent(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.pin_memory().to(self._device, non_blocking=True)

    def _fastest_s(self, pixels: torch.Tensor) -> float:
        times = [time.perf_counter()]
        for _ in range(_NUM_TIMED):
            self(pixels)
            times.append(time.perf_counter())
        return min(end - start for start, end in pairwise(times))

    def _recorded(self, pixels: torch.Tensor) -> _Graph | None:
        """Return the computation of this size of batch as a graph; None: it waits for the CPU on its way."""
        with _numerics(is_exact=False), torch.cuda.device(self._device):
            try:
                return _Graph(self._computed, self._sent(pixels))
            except torch.AcceleratorError:  # which nothing but the end of the process mends
                raise
            except RuntimeError:
                return None


class _Graph:
    """What a GPU does for one size of batch, recorded once and started as a whole.

    Args:
        compute: Pixels to outputs, both on the GPU; has computed such a batch before.
        pixels: Such a batch on the GPU, whose memory is the graph's from now on.
    """

    def __init__(
        self, compute: Callable[[torch.Tensor], Sequence[torch.Tensor]], pixels: torch.Tensor
    ) -> None:
        self._pixels, self._graph = pixels, torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = compute(pixels)

    def __call__(self, pixels: torch.Tensor) -> Sequence[torch.Tensor]:
        """Return the outputs for pinned pixels; the next call writes over them."""
        self._pixels.copy_(pixels, non_blocking=True)
        self._graph.replay()
        return self._outputs


def _fetched(outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Copy outputs from the GPU into pinned memory of their own, and wait once for all it was asked."""
    copies = [
        torch.empty(output.shape, dtype=output.dtype, pin_memory=True).copy_(output, non_blocking=True)
        for output in outputs
    ]
    torch.cuda.current_stream().synchronize()
    return copies


@contextmanager
def _numerics(*, is_exact: bool) -> Iterator[None]:
    with (
        torch.inference_mode(),
        # The plain executor: the profiling one recompiles at the first calls of every batch size.
        torch.jit.optimized_execution(False),  # type: ignore[attr-defined]
        torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled,
            benchmark=not is_exact,
            deterministic=is_exact,
            allow_tf32=False,  # float32 is what the manifest promises
        ),
    ):
        yield
