"""Start tritonserver as a child process, with what the wheel's binary needs around it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sapiens_server.errors import ServerNotFoundError
from sapiens_server.installation import CONTAINER, Installation, stub_for_this_python
from sapiens_server.leftovers import Claim

# What must be set before the server starts; whoever has set these variables otherwise keeps their values.
ENVIRONMENT = {
    # With glibc's defaults the server maps and unmaps every tensor above 32 MiB on each request; the page
    # faults cost more than all its copies. So it keeps free memory, but not all that a large image took, and
    # takes memory by pages of 2 MiB where the system has them. Models' processes see to their own heaps.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
    "MALLOC_ARENA_MAX": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    # A network's threads that wait for each other leave the processor to the other steps: by OpenMP's default
    # they keep it for milliseconds.
    "OMP_WAIT_POLICY": "passive",
    # Instances are the parallelism of pre- and postprocessors.
    "OPENBLAS_NUM_THREADS": "1",
    # A float32 engine computes in float32: without, several of NVIDIA's libraries round products to ten bits.
    "NVIDIA_TF32_OVERRIDE": "0",
    # Callers get an answer about their bad images; the log need not hear of them.
    "OPENCV_LOG_LEVEL": "SILENT",
}

# Run by a small Python that then becomes the program, to which the kernel sends SIGTERM when the thread that
# started it ends. A preexec_fn would run in a fork of this process, unsafe beside threads (gRPC, torch).
_BECOME_PROGRAM = f"""\
import ctypes, os, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, {int(signal.SIGTERM)})
if os.getppid() == int(sys.argv[1]):  # else the parent died before it could matter
    os.execv(sys.argv[2], sys.argv[2:])
"""


def bound_to_this_thread(command: Sequence[str]) -> list[str]:
    """Return a command that runs another, which gets SIGTERM when the thread ends that starts it.

    Args:
        command: Path of a program, and its arguments.
    """
    return [sys.executable, "-I", "-S", "-c", _BECOME_PROGRAM, str(os.getpid()), *command]


def launch(
    installation: Installation, arguments: list[str], claim: Claim, choices: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Start the server in a process group of its own; it inherits the lock of the claim.

    Args:
        installation: Which server.
        arguments: Its command line.
        claim: The name it runs under.
        choices: Further variables of its environment.

    Raises:
        ServerNotFoundError: The wheel's Python backend cannot run in this interpreter or this folder.
    """
    environment = {**ENVIRONMENT, **os.environ, **choices}
    own_arguments: list[str] = []
    if installation.wheel is not None:
        _check_shell_safe(claim.folder)
        environment = _with_wheel(environment, installation.wheel)
        backends = claim.folder / "backends"
        _check_stub(_copy_python_backend(installation.wheel, backends), environment)
        # The wheel has only a part of DCGM, so it cannot read GPU metrics.
        own_arguments = [f"--backend-directory={backends}", "--allow-gpu-metrics=false"]
    working_folder = claim.folder / "cwd"  # the first place where models' imports look, so it must stay empty
    working_folder.mkdir()
    command = [str(installation.binary), *own_arguments, *arguments]  # of a flag the last one counts
    return subprocess.Popen(
        bound_to_this_thread(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        cwd=working_folder,
        env=environment,
        pass_fds=(claim.lock_fd,),
        start_new_session=True,  # a terminal's Ctrl-C reaches only this process, which stops the server
    )


def check_temporary_folder(installation: Installation) -> None:
    """Look whether the folder for temporary files is fit for a server, by what `launch` does there.

    Raises:
        ServerNotFoundError: It is not, or the wheel's Python backend cannot run in this interpreter.
    """
    with tempfile.TemporaryDirectory() as folder:
        _check_shell_safe(Path(folder))
        if installation.wheel:
            stub = _copy_python_backend(installation.wheel, Path(folder) / "backends")
            _check_stub(stub, _with_wheel(dict(os.environ), installation.wheel))


def shell_safe(folder: Path, run_folder: Path) -> Path:
    """Return a path of the folder that tritonserver may paste unquoted into the shell commands of stubs.

    Raises:
        ServerNotFoundError: There is none: the run folder's own path is not fit for that.
    """
    if _is_shell_safe(folder):
        return folder
    _check_shell_safe(run_folder)
    link = run_folder / "repository"
    link.symlink_to(folder)
    return link


def _is_shell_safe(path: Path) -> bool:
    return shlex.quote(str(path)) == str(path)


def _check_shell_safe(run_folder: Path) -> None:
    if not _is_shell_safe(run_folder):
        raise ServerNotFoundError(
            "the folder for temporary files must have a path without spaces and other characters special to "
            f"shells, got {str(run_folder.parent)!r}; set TMPDIR to another"
        )


def _with_wheel(environment: dict[str, str], wheel: Path) -> dict[str, str]:
    """Point the loader at libpython and the wheel's libraries, the embedded Python at this environment."""
    libraries = (
        sysconfig.get_config_var("LIBDIR"),
        f"{sys.base_prefix}/lib",
        str(wheel.parents[1] / "nvidia_pytriton.libs"),
        environment.get("LD_LIBRARY_PATH"),
    )
    # The embedded Python takes its standard library and packages from the first `python3`.
    # It is started by `bash`, which an empty or odd PATH does not find.
    programs = (str(Path(sys.executable).parent), environment.get("PATH"), os.defpath)
    kept = {name: value for name, value in environment.items() if name != "PYTHONHOME"}
    return {
        **kept,
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        "PATH": os.pathsep.join(filter(None, programs)),
    }


def _copy_python_backend(wheel: Path, backends: Path) -> Path:
    """Put together the three files of the Python backend, which the wheel keeps apart; return the stub."""
    folder = backends / "python"
    folder.mkdir(parents=True)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        shutil.copy2(wheel / "backends" / "python" / name, folder)
    return Path(shutil.copy2(stub_for_this_python(wheel), folder))


def _check_stub(stub: Path, environment: dict[str, str]) -> None:
    """Run the stub, which without arguments ends at once: the server would wait for ever for its start."""
    try:
        trial = subprocess.run([stub], env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ServerNotFoundError(
            f"programs must be allowed to run in {stub.parent}, got {error.strerror}; "
            "set TMPDIR to a folder where they are"
        ) from error
    _, is_incomplete, missing = trial.stderr.partition("error while loading shared libraries: ")
    if is_incomplete:
        raise ServerNotFoundError(
            f"the bundled tritonserver needs a shared library of {sys.executable}, got {missing.strip()!r}; "
            f"use a Python configured with --enable-shared, or {CONTAINER}"
        )
