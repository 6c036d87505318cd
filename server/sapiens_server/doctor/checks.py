"""What is looked at, each by one function."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sapiens_core.contract.folders import CONFIG_FILE, missing_modules
from sapiens_core.contract.limits import LIMITS, MAX_PIXELS_VARIABLE, checked_max_pixels
from sapiens_core.contract.model_info import CONTRACT, CONTRACT_PARAMETER
from sapiens_core.processors import num_processors
from sapiens_server.addresses import free_address, is_loopback
from sapiens_server.doctor.findings import Finding, finding_of
from sapiens_server.doctor.machine import max_open_files, memory_bytes, memory_limit
from sapiens_server.engines import MANIFEST_FILE, refusals
from sapiens_server.errors import AddressError, GpuError, RepositoryError, ServerNotFoundError
from sapiens_server.gpus import gpus
from sapiens_server.installation import (
    CONTAINER,
    NEWER_CONTAINER,
    Installation,
    find_tritonserver,
    release_of,
    too_old,
)
from sapiens_server.launch import check_temporary_folder
from sapiens_server.leftovers import num_dead_servers
from sapiens_server.repository import checked_folders
from sapiens_server.shared_memory import FOLDER, need_of, shortage

_GB = 2**30
_MB = 2**20
_LITTLE_MEMORY = 2 * _GB
_FEW_FILES = 1024
_DEFAULT_SHARED_MEMORY = 64 * _MB  # of a container, too little for photographs
_EXTRAS = {
    "server": ("pytriton",),
    "export": ("torch", "safetensors", "transformers", "huggingface_hub", "yaml", "onnx", "onnxruntime"),
    "heif": ("pillow_heif",),
}
_CONTRACT = re.compile(rf'key: "{CONTRACT_PARAMETER}"\s+value \{{\s+string_value: "(\w+)"')


@dataclass(frozen=True)
class Question:
    """What is to be served, and where.

    Attributes:
        repository: Folder of models, or its address in object storage.
        host: Address for the server.
        places: Hosts and ports by service, as in the options --SERVICE-port.
    """

    repository: str
    host: str
    places: Mapping[str, tuple[str, int]]


def diagnosis(question: Question) -> list[Finding]:
    """Look at everything that `sapiens serve` needs.

    Args:
        question: What is to be served.
    """
    return [
        *_software(),
        *_server(question.host),
        *_extras(),
        *_machine(),
        *_shared_memory(),
        *_gpus(),
        *_ports(question),
        *_repository(question.repository),
    ]


def _software() -> Iterator[Finding]:
    try:
        own = version("sapiens-triton")
    except PackageNotFoundError:
        own = "not installed as a package"
    yield Finding("sapiens", "ok", f"{own}, Python {platform.python_version()} in {sys.executable}")
    libc = " ".join(platform.libc_ver()).strip() or "another C library than glibc"
    if platform.system() == "Linux":
        yield Finding("system", "ok", f"{platform.platform(terse=True)}, {platform.machine()}, {libc}")
    else:
        yield Finding("system", "error", f"tritonserver needs Linux, this is {platform.system()}", CONTAINER)


def _server(host: str) -> Iterator[Finding]:
    try:
        installation = find_tritonserver()
    except ServerNotFoundError as error:
        yield finding_of("server", error)
        return
    release = release_of(installation)
    name = f"tritonserver {'.'.join(map(str, release)) if release else 'of an unknown release'}"
    where = f"{name} at {installation.binary}"
    if installation.wheel:
        yield Finding("server", "note", f"{where}, bundled: for development and tests, on the CPU")
        if not is_loopback(host):
            words = f"the bundled server must listen on loopback, got host {host}: one request can crash it"
            yield Finding("server", "error", words, f"{CONTAINER}, or insist with --expose-bundled")
    elif words := too_old(installation):
        yield Finding("server", "warning", words, NEWER_CONTAINER)
    else:
        yield Finding("server", "ok", where)
    yield from _temporary_folder(installation)


def _temporary_folder(installation: Installation) -> Iterator[Finding]:
    folder = tempfile.gettempdir()
    try:
        check_temporary_folder(installation)
    except ServerNotFoundError as error:
        yield finding_of("temporary files", error)
        return
    free = shutil.disk_usage(folder).free
    yield Finding("temporary files", "ok", f"{folder}, {free // _MB} MB free")


def _extras() -> Iterator[Finding]:
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            words = f"not installed: {', '.join(missing)}"
            yield Finding(
                f"extra {extra}", "note", words, f"pip install 'sapiens-triton[{extra}]' to have it"
            )
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def _machine() -> Iterator[Finding]:
    if not Path("/proc/meminfo").exists():
        return
    yield Finding("processors", "ok", f"{num_processors():g} of {os.cpu_count()}")
    limit, available = memory_limit(), memory_bytes("MemAvailable")
    usable = min(available, limit or available)
    limited = f", of which this container may take {limit / _GB:.1f} GB" if limit else ""
    words = f"{memory_bytes('MemTotal') / _GB:.1f} GB, {available / _GB:.1f} GB available{limited}"
    if usable < _LITTLE_MEMORY:
        advice = f"leave the server {_LITTLE_MEMORY // _GB} GB and what its engines take"
        yield Finding("memory", "warning", words, advice)
    else:
        yield Finding("memory", "ok", words)
    files = max_open_files()
    if files is not None and files < _FEW_FILES:
        yield Finding("open files", "warning", f"at most {files}", f"ulimit -n {_FEW_FILES}, or more")


def _shared_memory() -> Iterator[Finding]:
    if not FOLDER.is_dir():
        yield Finding("shared memory", "error", f"there is no {FOLDER}", "mount a tmpfs there")
        return
    usage = shutil.disk_usage(FOLDER)
    words = f"{FOLDER} has {usage.total // _MB} MB, {usage.free // _MB} MB free"
    if usage.free <= _DEFAULT_SHARED_MEMORY:
        yield Finding("shared memory", "warning", words, "give the container more, such as --shm-size=2g")
    else:
        yield Finding("shared memory", "ok", words)
    if num := num_dead_servers():
        words = f"servers that were killed and have left files: {num}"
        yield Finding("shared memory", "note", words, "the next `sapiens serve` removes them")


def _gpus() -> Iterator[Finding]:
    try:
        present = gpus()
    except GpuError as error:
        yield finding_of("GPU", error)
        return
    if not present:
        yield Finding("GPU", "note", "none: engines run on the CPU")
    for number, gpu in enumerate(present):
        words = f"{gpu.name}, compute capability {gpu.compute_capability}, {gpu.memory}, driver {gpu.driver}"
        yield Finding(f"GPU {number}", "ok", words)


def _ports(question: Question) -> Iterator[Finding]:
    for service, (host, port) in question.places.items():
        try:
            address = free_address(host, port, service)
        except AddressError as error:
            yield finding_of(f"{service} port", error)
        else:
            yield Finding(f"{service} port", "ok", f"{address} is free")


def _repository(repository: str) -> Iterator[Finding]:
    if "://" in repository:
        yield Finding("repository", "note", f"{repository} can only be read by the server")
        return
    folder = Path(repository).absolute()
    try:
        folders = checked_folders(folder, "none")
    except RepositoryError as error:
        yield finding_of("repository", error)
        return
    yield Finding("repository", "ok", f"{folder}: {', '.join(folders.models)}")
    if folders.foreign:
        words = f"left out, as they have no {CONFIG_FILE}: {', '.join(folders.foreign)}"
        yield Finding("repository", "note", words)
    yield from _room(folder, folders.models)
    yield from _fitness(folder, folders.models)


def _room(folder: Path, models: Sequence[str]) -> Iterator[Finding]:
    """Compare the shared memory that the models can take with what is free."""
    if not FOLDER.is_dir():
        return
    need = need_of(folder, models)
    try:
        max_pixels = checked_max_pixels(os.environ.get(MAX_PIXELS_VARIABLE, str(LIMITS.max_image_pixels)))
    except ValueError as error:
        yield finding_of("image limit", error)
        return
    if missing := shortage(need, max_pixels):
        yield finding_of("shared memory", ValueError(missing.removeprefix("warning: ")), "warning")
    else:
        words = f"these models take at most {need.num_bytes(max_pixels) // _MB + 1} MB"
        yield Finding("shared memory", "ok", words)


def _fitness(folder: Path, models: Sequence[str]) -> Iterator[Finding]:
    """Look whether models and engines are for this release and this server."""
    others = [name for name in models if _contract(folder / name) != CONTRACT]
    if others:
        words = f"{', '.join(others)} must follow contract {CONTRACT}, the one of this release"
        yield Finding("models", "error", words, "export them again")
    for name in models:
        if missing := sorted(missing_modules(folder / name)):
            words = f"{name} needs {', '.join(missing)}, which this release does not have"
            yield Finding("models", "error", words, "export it again")
    refused = refusals(folder, models)
    for sentence in refused.values():
        yield finding_of("engines", ValueError(sentence))
    engines = [name for name in models if (folder / name / MANIFEST_FILE).is_file()]
    if engines and not refused:
        yield Finding("engines", "ok", f"{', '.join(engines)} fit this server")


def _contract(model: Path) -> int:
    """Return the number of the contract that a model follows; this release's where it states none."""
    found = _CONTRACT.search((model / CONFIG_FILE).read_text(encoding="utf-8", errors="replace"))
    return int(found[1]) if found and found[1].isdecimal() else CONTRACT
