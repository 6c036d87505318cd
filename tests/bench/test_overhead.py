"""A small run of the measure of what serving costs, for every contender."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

OVERHEAD = Path(__file__).parents[2] / "bench" / "overhead.py"
CONTENDERS = (
    "in-process",
    "in-process, network size",
    "ensemble",
    "ensemble, shared memory",
    "SDK",
    "ensemble, network size",
    "classic contract",
    "client-side preprocess",
)


@pytest.mark.slow
def test_every_contender_is_measured_for_depth():
    command = [sys.executable, OVERHEAD, "--network", "free", "--rounds", "1", "--size", "90x120"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "### depth, network free, JPEG of 90 x 120 pixels" in table
    for callers in (1, 4, 8):
        rows = table.split(f"| {callers} caller(s) |")[1].split("\n\n")[0].splitlines()[2:]
        assert tuple(row.split("|")[1].strip() for row in rows) == CONTENDERS
