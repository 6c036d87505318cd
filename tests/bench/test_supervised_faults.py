"""A small run of the checks with `sapiens serve`. Times are not looked at: machines are noisy."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(start, figures) -> dict[str, str]:
    """What the checks measured."""
    return figures(start("faults", "mend", "drain", "--seconds", "6", "--at", "1"))


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
