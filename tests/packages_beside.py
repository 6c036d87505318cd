"""Packages that a few tests want, in a folder of their own: the environment of all others stays small."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def installed(requirements: Path, name: str) -> Path:
    """Return the folder `name` below the environment, with exactly what a requirements file lists.

    It is kept for the next time.
    """
    folder = Path(sys.prefix) / name
    done = folder / "installed.txt"
    if not done.exists() or done.read_text() != requirements.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--target", folder, "--requirement", requirements], check=True)
        done.write_text(requirements.read_text())
    return folder
