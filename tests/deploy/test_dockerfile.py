"""The Dockerfiles, as linters see them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", ["docker/Dockerfile", "tests/deploy/base/Dockerfile"])
def test_hadolint_finds_nothing(path):
    found = subprocess.run(
        [Path(sys.executable).parent / "hadolint", ROOT / path], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
