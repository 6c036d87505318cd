"""Say what this machine lacks for the bundled server, before pip says it less clearly."""

import importlib.util
import platform
import shutil
import sys

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
    if sys.version_info[:2] == (3, 13) and shutil.which("cc") is None:
        found.append(
            "with Python 3.13 numpy 1.26 is built by a C compiler, and there is no cc; or use 3.11, 3.12"
        )
    return found


if __name__ == "__main__":
    sentences = problems()
    for sentence in sentences:
        print(f"preflight: {sentence}", file=sys.stderr)
    sys.exit(bool(sentences))
