"""Small runs of the checks of bench/faults that take long. Times are not looked at: machines are noisy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).parents[2] / "bench" / "faults"
TIMEOUT_S = 900


@pytest.fixture(scope="module")
def measured():
    """A function (checks and options) -> what they measured, by the figure's name."""

    def run(*words: str) -> dict[str, str]:
        command = [sys.executable, FAULTS, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        rows = [[cell.strip() for cell in line.split("|")[2:5]] for line in done.stdout.splitlines()[2:]]
        assert rows, done.stderr
        return {figure: value for figure, _, value in rows}

    return run


def test_servers_that_fail_in_turn_cost_no_call_and_leave_nothing(measured):
    told = measured("endurance", "--seconds", "20", "--at", "3")
    assert told["faults"] == "5"
    assert told["failed calls"] == "0", told
    assert int(told["calls sent more than once"]) >= 1
    assert told["regions that the ended servers left"] == "0"
    assert {"memory of the client grew by", "open files of sapiens serve 2 grew by"} <= told.keys()


def test_a_model_is_loaded_anew_and_a_broken_one_is_not_and_no_call_fails(measured):
    told = measured("reload", "--seconds", "6", "--at", "1")
    assert told["failed calls"] == "0", told
    assert told["requests sent at most for one call"] == "1"
    assert told["the broken version is refused"] == "True"
    assert "probes of /ready that said no" in told  # some do where the server gets no processor for seconds


def test_junk_is_refused_and_bad_peers_are_borne(measured):
    told = measured("junk", "peers", "--seconds", "6", "--at", "1")
    assert told["kinds of junk"] == told["malformed calls"] == "12"
    assert told["their statuses"] == "['INVALID_ARGUMENT']"
    assert told["failed calls of others"] == "0", told
    assert told["the server is the same process, and ready"].endswith(", True)")
