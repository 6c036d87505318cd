"""Where tritonserver is, and whether the one inside the nvidia-pytriton wheel can run here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from sapiens_server.errors import ServerNotFoundError

_WHEEL_RELEASE = (2, 51)
_FLOOR, _FLOOR_NAME = (2, 73), "26.09"
CONTAINER = "use NVIDIA's Triton container"
NEWER_CONTAINER = "use a newer release of NVIDIA's Triton container"


@dataclass(frozen=True)
class Installation:
    """A tritonserver on this machine.

    Attributes:
        binary: The executable.
        wheel: Folder `pytriton/tritonserver` of the nvidia-pytriton wheel; None: the binary came from PATH
            and has its backends and libraries in place, as in NVIDIA's containers.
    """

    binary: Path
    wheel: Path | None


def find_tritonserver() -> Installation:
    """Find the tritonserver on PATH, else the one in the nvidia-pytriton wheel.

    Raises:
        ServerNotFoundError: There is neither, or the wheel's cannot run here.
    """
    on_path = shutil.which("tritonserver")
    if on_path is not None:
        return Installation(Path(on_path).absolute(), wheel=None)
    package = importlib.util.find_spec("pytriton")
    places = package.submodule_search_locations if package else None
    wheel = next((folder for place in places or () if (folder := Path(place, "tritonserver")).is_dir()), None)
    if wheel is None:
        raise ServerNotFoundError(
            "tritonserver must be on PATH or in the nvidia-pytriton wheel, found neither; "
            f"pip install 'sapiens-triton[server]', or {CONTAINER}"
        )
    _check_host(wheel)
    return Installation(wheel / "bin" / "tritonserver", wheel)


def release_of(installation: Installation) -> tuple[int, int] | None:
    """Return the server's version, such as (2, 51); None where it cannot be told."""
    if installation.wheel:
        return _WHEEL_RELEASE
    written = installation.binary.parents[1] / "TRITON_VERSION"
    text = written.read_text() if written.is_file() else os.environ.get("TRITON_SERVER_VERSION", "")
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def too_old(installation: Installation) -> str:
    """Tell that a server of NVIDIA's is older than it should be for strangers' requests; empty: it is not."""
    release = release_of(installation)
    if installation.wheel or release is None or release >= _FLOOR:
        return ""
    name = f"tritonserver {release[0]}.{release[1]} at {installation.binary}"
    return f"{name} lacks fixes of crashes and of its security up to {_FLOOR_NAME}"


def stub_for_this_python(wheel: Path) -> Path:
    """Return where the wheel keeps the program that runs Python models in this interpreter's version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return wheel / "python_backend_stubs" / version / "triton_python_backend_stub"


def _check_host(wheel: Path) -> None:
    """Refuse an environment in which the wheel's server would fail obscurely or wait for ever."""
    libc, libc_version = platform.libc_ver()
    is_new_glibc = libc == "glibc" and tuple(map(int, libc_version.split("."))) >= (2, 35)
    stub = stub_for_this_python(wheel)
    stub_versions = ", ".join(sorted(path.name for path in stub.parents[1].iterdir()))
    numpy = importlib.metadata.version("numpy")
    requirements = (
        (is_new_glibc, "glibc 2.35 or newer", f"{libc} {libc_version}", "use a newer distribution"),
        (stub.is_file(), f"one of Python {stub_versions}", platform.python_version(), "use one of them"),
        (int(numpy.split(".")[0]) < 2, "numpy below 2 for its Python models", numpy, "pip install 'numpy<2'"),
    )
    for is_met, need, seen, advice in requirements:
        if not is_met:
            raise ServerNotFoundError(
                f"the bundled tritonserver needs {need}, this is {seen}; {advice}, or {CONTAINER}"
            )
