"""Whether the server at hand can run the engines of a repository, as far as their manifests tell."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from sapiens_core.contract.engines import ENGINE_FILES, MIN_ONNXRUNTIME
from sapiens_server.errors import EngineError, GpuError, ServerNotFoundError, UntoldGpuError
from sapiens_server.gpus import gpus
from sapiens_server.installation import CONTAINER, Installation, find_tritonserver

MANIFEST_FILE = "manifest.json"
_BACKENDS = {  # by runtime
    "torchscript": "pytorch",
    "aoti": "pytorch",
    "onnx": "onnxruntime",
    "tensorrt": "tensorrt",
}
_DIRECTORY_FLAG = "--backend-directory"
_DEFAULT_DIRECTORY = Path("/opt/tritonserver/backends")
_ONNXRUNTIME_VERSION = re.compile(rb"VERS_(\d+)\.(\d+)\.\d+")  # by which the library's symbols are bound
_LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/tensorrt/lib")
_TENSORRT_FILE = re.compile(r"libnvinfer\.so\.(\d+\.\d+\.\d+)")

Facts = Mapping[str, object]


def check_engines(
    repository: Path, models: Sequence[str], installation: Installation, arguments: Sequence[str]
) -> tuple[str, ...]:
    """Refuse what tritonserver would refuse in words of its own, after it has loaded all before.

    Args:
        repository: Folder of models.
        models: Those that are to be loaded.
        installation: The server at hand.
        arguments: What else is on its command line.

    Returns:
        What could not be looked at, one warning for each engine.

    Raises:
        EngineError: An engine cannot run.
    """
    unseen: list[str] = []
    backends = _backend_directory(installation, arguments)
    for name in models:
        facts = _facts(repository / name)
        runtime = facts.get("runtime")
        if runtime == "python" or _object(facts.get("serving")).get("portable"):
            _check_torch(repository / name, installation)
        elif isinstance(runtime, str) and runtime in _BACKENDS:
            backend = _backend(repository / name, runtime, backends)
            check = _CHECKS.get(runtime)
            if check:
                check(name, facts, backend)
        try:
            _check_processor(name, facts)
            _check_gpus(name, facts)
        except UntoldGpuError as error:
            unseen.append(f"warning: whether {name} fits the GPU is not known: {error}")
    return tuple(unseen)


def refusals(repository: Path, models: Sequence[str]) -> dict[str, str]:
    """Return why the server at hand cannot run engines, by their names; without a server nothing is known.

    Args:
        repository: Folder of models.
        models: The engines.
    """
    try:
        installation = find_tritonserver()
    except ServerNotFoundError:
        return {}
    found: dict[str, str] = {}
    for name in models:
        try:
            check_engines(repository, [name], installation, ())
        except EngineError as error:
            found[name] = str(error)
    return found


def is_bundled_server() -> bool:
    """Return whether the server at hand is the bundled one, which has Python's backend alone."""
    try:
        return find_tritonserver().wheel is not None
    except ServerNotFoundError:
        return False


def _facts(folder: Path) -> Facts:
    """Return what an engine's manifest says; nothing for other models, and where it cannot be read."""
    try:
        facts = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _backend_directory(installation: Installation, arguments: Sequence[str]) -> Path | None:
    """Return where the server's backends are; None: it is the bundled one, which has Python's alone."""
    joined = f"{_DIRECTORY_FLAG}="
    given = [
        value if flag == _DIRECTORY_FLAG else flag.removeprefix(joined)
        for flag, value in pairwise((*arguments, ""))
        if flag == _DIRECTORY_FLAG or flag.startswith(joined)
    ]
    if given:
        return Path(given[-1])
    return None if installation.wheel else _DEFAULT_DIRECTORY


def _check_torch(folder: Path, installation: Installation) -> None:
    """Look for torch where the bundled server's Python models run, which is here; of others nobody knows."""
    files = (ENGINE_FILES["python"], ENGINE_FILES["aoti"])
    is_run_by_torch = any(any(folder.glob(f"*/{file}")) for file in files)
    if is_run_by_torch and installation.wheel and importlib.util.find_spec("torch") is None:
        raise EngineError(
            f"{folder.name} is run by torch, which must be installed in the Python of the server's models, "
            f"and is not in {sys.executable}; pip install torch there"
        )


def _backend(model: Path, runtime: str, backends: Path | None) -> Path:
    """Return where an engine's backend is: Triton looks into the model's version, the model, and last here.

    Raises:
        EngineError: There is none.
    """
    backend = _BACKENDS[runtime]
    library = f"libtriton_{backend}.so"
    for own in (*sorted(model.glob(f"*/{library}")), model / library):
        if own.is_file():
            return own.parent
    if backends is not None and (not backends.is_dir() or (backends / backend).is_dir()):
        return backends / backend
    seen = "the bundled one has Python's alone" if backends is None else f"there is none in {backends}"
    raise EngineError(
        f"{model.name} is an engine for Triton's {backend} backend, which the server must have, and {seen}; "
        f"{CONTAINER}, or export with {'--portable' if runtime == 'aoti' else '--runtime python'}"
    )


def _check_onnxruntime(name: str, _facts: Facts, backend: Path) -> None:
    for library in sorted(backend.glob("libonnxruntime.so*")):
        found = _ONNXRUNTIME_VERSION.search(library.read_bytes())
        if found is None:
            continue
        seen = tuple(int(number) for number in found.groups())
        if seen < MIN_ONNXRUNTIME:
            raise EngineError(
                f"{name} needs ONNX Runtime {_dotted(MIN_ONNXRUNTIME)} or newer in the server, got "
                f"{_dotted(seen)} in {library}; use a newer release of NVIDIA's Triton container, or export "
                "with --runtime python"
            )
        return


def _check_tensorrt(name: str, facts: Facts, _backend: Path) -> None:
    wanted = str(_object(facts.get("plan")).get("tensorrt", ""))
    present = set(_tensorrt_versions())
    if wanted and present and ".".join(wanted.split(".")[:3]) not in present:
        raise EngineError(
            f"{name} is a plan of TensorRT {wanted}, which the server must have, got "
            f"{', '.join(sorted(present))}; export it again in NVIDIA's TensorRT container of the release of "
            "this Triton"
        )


def _check_processor(name: str, facts: Facts) -> None:
    """Refuse a package that is compiled for CPUs where Triton would put it onto a GPU."""
    if _object(facts.get("package")).get("device") != "cpu":
        return
    try:
        present = gpus()
    except UntoldGpuError:
        raise
    except GpuError:  # then Triton finds none either
        return
    if present:
        raise EngineError(
            f"{name} is compiled for a CPU, but the server would run it on the GPU here, {present[0].name}; "
            "export it again on this machine"
        )


def _check_gpus(name: str, facts: Facts) -> None:
    """Compare the GPUs that an engine was built for and placed on with those that are here."""
    # A plan of TensorRT, or a package of AOTInductor.
    built = _object(facts.get("plan", facts.get("package")))
    wanted, ids = built.get("compute_capability"), _object(facts.get("serving")).get("gpus")
    places = ids if isinstance(ids, list) else []
    if not wanted and not places:
        return
    try:
        present = gpus()
    except UntoldGpuError:
        raise
    except GpuError as error:
        raise EngineError(f"{name} needs a GPU: {error}") from error
    if not present:
        raise EngineError(
            f"{name} needs a GPU, got none; give the container one (docker run --gpus all), or export it "
            "without --gpus and with --runtime python"
        )
    if missing := [str(place) for place in places if place >= len(present)]:
        raise EngineError(
            f"{name} is placed on GPU {', '.join(missing)}, which must be among the {len(present)} here, "
            "numbered from 0; export it again with other --gpus"
        )
    # Which of several GPUs gets which number is CUDA's choice, so one that fits is enough.
    capabilities = sorted({gpu.compute_capability for gpu in present})
    if wanted and wanted not in capabilities:
        raise EngineError(
            f"{name} was built on {built.get('gpu')} for GPUs of compute capability {wanted}, got "
            f"{present[0].name} with {', '.join(capabilities)}; export it again on this machine"
        )


def _object(value: object) -> Facts:
    return value if isinstance(value, Mapping) else {}


def _tensorrt_versions() -> Iterator[str]:
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep), *_LIBRARY_FOLDERS]
    for folder in filter(None, folders):
        for library in Path(folder).glob("libnvinfer.so.*"):
            if found := _TENSORRT_FILE.match(library.name):
                yield found[1]


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


_CHECKS: Mapping[str, Callable[[str, Facts, Path], None]] = {
    "onnx": _check_onnxruntime,
    "tensorrt": _check_tensorrt,
}
