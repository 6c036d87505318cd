"""A small run of the soak."""

from __future__ import annotations


def test_a_client_keeps_neither_files_nor_threads_and_calls_end_as_they_should(start, figures):
    measured = figures(start("soak.py", "--minutes", "0.07", "--every", "0.5", "--large-rounds", "1"))
    answers = ("answer", "answer through shared memory", "answer by a new client")
    for kind in (*answers, "invalid image", "deadline"):
        assert int(measured[f"calls: {kind}"]) >= 1
    assert measured["calls that ended otherwise"] == "0"
    assert "server's memory kept after large images" in measured
    assert measured["regions of shared memory left"] == "0"
    for kept in ("open files", "threads"):
        assert int(measured[f"{kept} at the end"]) <= int(measured[f"{kept} in the beginning"])
