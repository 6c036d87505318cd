"""AOTInductor packages: a network compiled for one kind of machine, and refused on every other."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_KEY = "sapiens_target"  # in the package's metadata
_NAME = "model"  # that torch gives the one network of a package
_CPUINFO = Path("/proc/cpuinfo")
_FEATURES = re.compile(r"^(?:flags|Features)\s*:(.*)$", re.MULTILINE)
# What compilers use by themselves of an x86 CPU; of the rest that Linux lists, not all is the CPU's.
_X86_FEATURE = re.compile(r"(avx|amx|s?sse|fma|f16c|bmi|abm|movbe|popcnt)")


@dataclass(frozen=True)
class Target:
    """What a package is compiled for.

    Attributes:
        torch_release: Whose libraries it calls, such as "2.13".
        device: "cpu" or "cuda".
        compute_capability: Of the GPU, such as "9.0"; empty on a CPU.
        machine: Kind of processor, such as "x86_64".
        cpu_features: Instructions that the processor has; code of a package for GPUs uses them too.
    """

    torch_release: str
    device: str
    compute_capability: str
    machine: str
    cpu_features: tuple[str, ...]

    @classmethod
    def here(cls, device: torch.device) -> Target:
        """Return what is compiled for on this machine.

        Args:
            device: The CPU, or a GPU that torch can use.
        """
        is_gpu = device.type == "cuda"
        capability = ".".join(map(str, torch.cuda.get_device_capability(device))) if is_gpu else ""
        machine = platform.machine()
        return cls(_release(torch.__version__), device.type, capability, machine, _cpu_features(machine))

    def to_metadata(self) -> dict[str, str]:
        """Return it as an entry of a package's metadata."""
        return {_KEY: json.dumps(asdict(self))}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Target:
        """Read what `to_metadata` wrote.

        Raises:
            ValueError: There is nothing.
        """
        try:
            facts = json.loads(metadata[_KEY])
            return cls(**{**facts, "cpu_features": tuple(facts["cpu_features"])})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"package must tell what it is compiled for, got {sorted(metadata)}; write it with "
                "`sapiens export --runtime aoti`"
            ) from error

    def misfits(self, present: Target) -> list[str]:
        """Say in words what a machine lacks that the package needs, and what it has instead.

        Args:
            present: The machine.
        """
        names = ("torch_release", "device", "compute_capability", "machine")
        pairs = [(name, getattr(self, name), getattr(present, name)) for name in names]
        unlike = [f"{name.replace('_', ' ')} {own}, not {seen}" for name, own, seen in pairs if own != seen]
        missing = sorted(set(self.cpu_features) - set(present.cpu_features))
        return unlike + ([f"the instructions {', '.join(missing)}"] if missing and not unlike else [])


def loaded_package(path: Path, device: torch.device) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """Load a package onto the device that it is compiled for.

    No compiler is needed, which `torch._inductor.aoti_load_package` would ask what this CPU can do; otherwise
    this is what it does.

    Args:
        path: The file.
        device: Where it is to run.

    Returns:
        A function (B, H, W, 3) uint8 pixels on the device -> the network's outputs there.

    Raises:
        ValueError: It is compiled for another machine, or is no package of ours.
    """
    loader = torch._C._aoti.AOTIModelPackageLoader
    metadata = loader.load_metadata_from_package(str(path), _NAME)  # type: ignore[attr-defined]
    target = Target.from_metadata(metadata)
    if misfits := target.misfits(Target.here(device)):
        raise ValueError(
            f"{path} is compiled for one kind of machine, and needs {'; '.join(misfits)}; export it again "
            "on the machine that serves it"
        )
    # One thread at a time runs it, which is what single-threaded means here; its kernels use several.
    package = loader(str(path), _NAME, True, 1, -1 if device.index is None else device.index)

    def run(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(package.boxed_run([pixels]))

    return run


def _release(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _cpu_features(machine: str) -> tuple[str, ...]:
    """Return the names of a CPU's instruction sets; none where the system does not list them."""
    found = _FEATURES.search(_CPUINFO.read_text()) if _CPUINFO.is_file() else None
    names = found[1].split() if found else []
    return tuple(sorted(name for name in names if machine != "x86_64" or _X86_FEATURE.match(name)))
