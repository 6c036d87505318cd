"""A small run of every check with real servers that fail. Times are not looked at: machines are noisy."""

from __future__ import annotations

import signal
import time

import pytest

FIRST = ("kill", "hang", "stub", "bulk", "restart")
SECOND = ("stop", "rolling", "dns", "large", "refusals", "full", "crowd", "offered")
SMALL = ("--seconds", "6", "--at", "1", "--resolve-every", "1", "--images", "150")


@pytest.fixture(scope="module")
def measured(start, figures) -> dict[str, str]:
    """What the checks measured; half of them run beside the other half."""
    runs = [start("faults", *checks, *SMALL) for checks in (FIRST, SECOND)]
    return {name: value for run in runs for name, value in figures(run).items()}


@pytest.mark.parametrize("check", ["kill", "hang", "stub", "stop", "rolling", "restart"])
def test_no_call_fails_and_some_were_hit(measured, check):
    assert measured[f"{check}: failed calls"] == "0"
    assert int(measured[f"{check}: calls sent more than once"]) >= 1
    assert int(measured[f"{check}: calls"]) > 16


@pytest.mark.parametrize("server", ["kill: the killed", "stop: the stopped", "bulk: the killed"])
def test_the_server_was_really_gone(measured, server):
    assert measured[f"{server} server's port is open"] == "False"


def test_servers_that_are_back_are_used_again(measured):
    assert measured["kill: first answer after it is ready again"] != "inf s"
    assert measured["hang: first answer after it goes on"] != "inf s"
    assert measured["rolling: servers that answered, old and new"] == "4"


def test_servers_come_and_go_behind_a_name(measured):
    assert measured["dns: failed calls"] == "0"
    assert measured["dns: first answer of the added server"] != "inf s"
    assert int(measured["dns: lookups of the name"]) >= 4


@pytest.mark.parametrize(
    ("mistake", "kind"),
    [
        ("wrong token", "AuthenticationError"),
        ("no token", "AuthenticationError"),
        ("wrong authority", "TLSError"),
        ("no TLS", "TLSError"),
    ],
)
def test_every_refusal_is_an_error_of_its_own_and_sent_once(measured, mistake, kind):
    assert measured[f"refusals: {mistake}"].startswith(f"{kind}: ")
    assert measured[f"refusals: tries with {mistake}"] == "1"
    assert measured["refusals: distinct errors"] == "4"
    assert measured["refusals: right token and authority accepted"] == "True"


@pytest.mark.parametrize("client", ["SapiensClient", "AsyncSapiensClient"])
def test_60_megabytes_go_there_and_back(measured, client):
    assert float(measured[f"large: {client}: request"].removesuffix(" MB")) >= 60
    assert float(measured[f"large: {client}: answer"].removesuffix(" MB")) >= 60
    assert measured[f"large: {client}: it is about the image, and complete"] == "(True, (3750, 4000))"


def test_one_server_that_is_crowded_or_full_for_a_while_answers_everything(measured):
    assert measured["full: failed images of 40"] == "0"
    assert measured["full: failed calls of the others"] == "0"
    assert measured["crowd: failed images of 150"] == "0"
    for check in ("full", "crowd"):
        # Every image asking for itself makes 15 and more; a busy machine, on which pauses end late, 3.
        assert float(measured[f"{check}: requests per image"].removesuffix(" x")) < 5


def test_a_bulk_run_is_completed_after_both_kills(measured):
    assert measured["bulk: exit status of the runs"] == "[-9, 0]"
    assert measured["bulk: results that belong to their images"] == "150"
    assert "0 failed" in measured["bulk: the second run says"]
    for killed in ("server", "command"):
        assert int(measured[f"bulk: computed again after the {killed} was killed"]) <= 16


def test_an_interrupted_check_ends_at_once(start):
    process = start("faults", "kill", "--seconds", "3600")
    head = process.stdout.readline() + process.stdout.readline()
    time.sleep(2)  # now servers are up, or starting
    process.send_signal(signal.SIGINT)
    out, words = process.communicate(timeout=120)
    assert "measured" in head
    assert (process.returncode, out) == (130, ""), words


def test_a_server_that_is_offered_too_much_refuses_the_rest_and_does_nothing_else(measured):
    for share in (3, 10):
        assert measured[f"offered: failures other than refusals, at {share} x"] == "0"
        assert int(measured[f"offered: refused at {share} x"]) > 16
