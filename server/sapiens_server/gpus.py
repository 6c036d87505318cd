"""The NVIDIA GPUs of this machine, as its driver tells them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from sapiens_server.errors import GpuError, UntoldGpuError

_QUERY = "name,compute_cap,driver_version,memory.total"
_TIMEOUT_S = 30.0
_NO_LIBRARY = 12  # exit status where the driver's own library is not there
# By which the kernel offers GPUs: of servers and desktops, of Windows' subsystem, of Jetson.
_DEVICES = ("nvidia[0-9]*", "dxg", "nvhost-gpu")


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: As the driver calls it.
        compute_capability: Such as "9.0".
        driver: Version of the driver.
        memory: Of the GPU, such as "81559 MiB".
    """

    name: str
    compute_capability: str
    driver: str
    memory: str


def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs in the order of their ids; none on a machine or in a container without.

    Raises:
        GpuError: There are some, but the driver cannot tell about them; an UntoldGpuError where it has no
            tools to tell with, but may work.
    """
    has_devices = any(any(Path("/dev").glob(pattern)) for pattern in _DEVICES)
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        if not has_devices:
            return ()
        raise _untold(str(error)) from error
    if told.returncode:
        words = " ".join((told.stdout + told.stderr).split())
        if told.returncode == _NO_LIBRARY and has_devices:
            raise _untold(words)
        raise GpuError(
            f"nvidia-smi must tell about the GPUs, got exit status {told.returncode}: {words}; "
            "mend the driver, or restart the machine after its update"
        )
    rows = [[word.strip() for word in line.split(",")] for line in told.stdout.splitlines()]
    return tuple(Gpu(*row) for row in rows if len(row) == len(_QUERY.split(",")))


def _untold(seen: str) -> UntoldGpuError:
    return UntoldGpuError(
        f"nvidia-smi must tell about the GPUs in /dev, got {seen}; let the container have the driver's "
        "utilities (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
    )
