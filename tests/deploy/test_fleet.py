"""Fleets that grow, and that are restarted server by server. Times are not looked at: machines are noisy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).parents[2] / "bench" / "faults"
TIMEOUT_S = 900


def measured(*words: str) -> dict[str, str]:
    command = [sys.executable, FAULTS, *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert "Traceback" not in run.stderr, run.stderr
    rows = [[cell.strip() for cell in line.split("|")[2:5]] for line in run.stdout.splitlines()[2:]]
    return {figure: value for figure, _, value in rows}


def test_added_servers_get_calls():
    figures = measured("scale", "--seconds", "5", "--at", "1", "--resolve-every", "1")
    assert figures["failed calls"] == "0"
    assert figures["first answers of both added servers"] != "inf s"
    assert int(figures["calls per server afterwards, fewest"]) > 0


@pytest.mark.parametrize("check", ["rolling-three", "rolling-haproxy", "rolling-envoy"])
def test_no_call_fails_while_one_server_after_the_other_is_restarted(check):
    figures = measured(check, "--at", "1")
    assert figures["failed calls"] == "0"
    assert figures["exit statuses"] == "[0, 0, 0]"
    assert figures["servers that answered, old and new"] == "6"
