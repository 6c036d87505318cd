"""A small run of the checks with `sapiens serve`. Times are not looked at: machines are noisy."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(start, figures) -> dict[str, str]:
    """What the checks measured."""
    runs = [
        start("faults", "mend", "drain", "--seconds", "6", "--at", "1"),
        start("faults", "fuzz", "--images", "20"),
    ]
    return {name: value for run in runs for name, value in figures(run).items()}


def test_mended_server_costs_no_call(measured):
    assert measured["mend: failed calls"] == "0"
    assert int(measured["mend: calls sent more than once"]) >= 1
    assert measured["mend: processes that the killed server left"] == "0"
    assert measured["mend: regions that it left"] == "0"


def test_drained_server_costs_no_call_although_nobody_tries_again(measured):
    assert measured["drain: failed calls"] == "0"
    assert int(measured["drain: calls"]) > 16
    assert measured["drain: exit status"] == "0"
    assert measured["drain: regions that it left"] == "0"


def test_damaged_images_and_requests_are_refused_and_harm_nobody(measured):
    assert measured["fuzz: damaged images"] == "200"
    assert int(measured["fuzz: answered nevertheless"]) < 200
    assert measured["fuzz: neither answered nor refused as invalid"] == "0"
    assert "INVALID_ARGUMENT" in measured["fuzz: statuses of those"]
    assert measured["fuzz: without an answer in time"] == "0"
    assert measured["fuzz: restarts"] == "none"
    assert measured["fuzz: the server is the same process"] == "True"
    whole = int(measured["fuzz: whole images answered before and after"])
    assert whole > 200
