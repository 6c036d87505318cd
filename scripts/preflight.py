"""Say what this machine lacks for the bundled server, before pip says it less clearly."""

import importlib.util
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

MIN_GLIBC = (2, 35)


def problems() -> list[str]:
    """Return one sentence per thing that is missing."""
    found = []
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        found.append(f"Python 3.11 to 3.13 is needed, {sys.executable} is {platform.python_version()}")
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        found.append(
            f"the server needs Linux on x86-64 or aarch64, not {sys.platform} on {platform.machine()}"
        )
    else:
        library, version = platform.libc_ver()
        if library != "glibc" or tuple(int(part) for part in version.split(".")) < MIN_GLIBC:
            found.append(f"the server needs glibc 2.35 or newer, this is {library or 'no glibc'} {version}")
    if importlib.util.find_spec("ensurepip") is None:
        found.append("Python's venv module is incomplete; on Debian and Ubuntu install python3-venv")
    if sys.version_info[:2] == (3, 13) and (missing := missing_to_build_numpy()):
        found.append(
            f"with Python 3.13 numpy 1.26 is built from source, and there is no {', no '.join(missing)}; "
            "on Debian and Ubuntu install build-essential and python3-dev, or use Python 3.11 or 3.12"
        )
    return found


def missing_to_build_numpy() -> list[str]:
    """Return the compilers and headers that are not here."""
    missing = [compiler for compiler in ("cc", "c++") if shutil.which(compiler) is None]
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing.append("Python.h")
    return missing


if __name__ == "__main__":
    sentences = problems()
    for sentence in sentences:
        print(f"preflight: {sentence}", file=sys.stderr)
    sys.exit(bool(sentences))
