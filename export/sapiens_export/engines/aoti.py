"""Network to an AOTInductor package: compiled ahead of time, for the kind of machine at hand."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from sapiens_core.triton.module import loaded_module
from sapiens_core.triton.package import Target
from sapiens_export.engines.engine import EngineUnavailableError, engine_from_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from sapiens_export.engines.engine import Engine

_COMPILER = "CXX"  # environment variable by which torch is told of another one than this
_DEFAULT_COMPILER = "g++"


@dataclass(frozen=True)
class BuiltPackage:
    """Where a package was compiled; it runs on such machines alone.

    Attributes:
        torch: Release of torch whose libraries it calls.
        device: "cpu" or "cuda".
        gpu: Name of the GPU; empty on a CPU.
        compute_capability: Of that GPU, such as "9.0".
        machine: Kind of processor.
    """

    torch: str
    device: str
    gpu: str
    compute_capability: str
    machine: str


def check_compiler() -> None:
    """Refuse now what would fail after the network was asked.

    Raises:
        EngineUnavailableError: There is no C++ compiler.
    """
    compiler = os.environ.get(_COMPILER, _DEFAULT_COMPILER)
    if shutil.which(compiler) is None:
        raise EngineUnavailableError(
            f"an aoti engine is compiled, which needs the C++ compiler {compiler}, got none on PATH; "
            f"install it (Debian, Ubuntu: apt-get install g++), name another one in {_COMPILER}, or use "
            "--runtime python"
        )


def package_from_network(
    network: nn.Module, input_hw: tuple[int, int], path: Path, *, max_batch_size: int, device: str
) -> BuiltPackage:
    """Compile a network; this takes minutes.

    Args:
        network: Uint8 pixels to an engine's outputs; in evaluation mode; moved to the device.
        input_hw: Height and width of its input.
        path: File to write; what is needed on the way lies beside its folder.
        max_batch_size: Largest batch that it takes; smaller ones it takes too.
        device: Where it is to run, "cpu" or "cuda".

    Raises:
        EngineUnavailableError: PyTorch cannot compile it here.
    """
    check_compiler()
    from torch._inductor import aot_compile  # here, because only those who compile need it
    from torch._inductor.package.package import package_aoti
    from torch._inductor.utils import fresh_cache

    place = torch.device(device)
    target = Target.here(place)
    options = {
        "aot_inductor.package": True,
        "aot_inductor.metadata": target.to_metadata(),
        "cpp.dynamic_threads": True,  # as many as torch is told where it runs, not as it has here
    }
    with _quiet(), _explained(), tempfile.TemporaryDirectory(dir=path.parent.parent) as work:
        program = _exported(network.to(place), input_hw, max_batch_size)
        pixels = program.example_inputs[0]
        with fresh_cache(dir=work):  # else the weights would stay in the user's cache
            compiled = aot_compile(program.module(check_guards=False), pixels, options=options)
            files = cast("list[Any]", compiled)  # as it is with this option
            # Not the sources, which tell of this machine.
            package_aoti(str(path), [file for file in files if not str(file).endswith(".cpp")])
    gpu = torch.cuda.get_device_name(place) if device == "cuda" else ""
    return BuiltPackage(target.torch_release, device, gpu, target.compute_capability, target.machine)


def engine_from_package(path: Path, device: str) -> Engine:
    """Return a package as a function on arrays, like `engine_from_network`.

    Args:
        path: The file.
        device: "cpu" or "cuda".

    Raises:
        ValueError: It is compiled for another machine.
    """
    return engine_from_module(loaded_module(path, device), device)


def _exported(
    network: nn.Module, input_hw: tuple[int, int], max_batch_size: int
) -> torch.export.ExportedProgram:
    """Return the network as a program for batches of 1 to the largest one."""
    device = next(network.buffers()).device
    # Two, where there is a choice: the exporter takes a one for a constant.
    pixels = torch.zeros(min(2, max_batch_size), *input_hw, 3, dtype=torch.uint8, device=device)
    batch = {0: torch.export.Dim("batch", min=1, max=max_batch_size)} if max_batch_size > 1 else None
    with torch.no_grad():
        return torch.export.export(network, (pixels,), dynamic_shapes=(batch,))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of the exporter, of inductor, of the compiler
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise EngineUnavailableError(
            f"the network must be one that PyTorch can compile on this machine, got: {reason}; use --runtime "
            "python"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what the exporter says about its own workings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        warnings.simplefilter("ignore", category=DeprecationWarning)
        yield
