"""The configs of docker/balancers, tried by the balancers. Times are not looked at: machines are noisy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BALANCERS = ROOT / "docker" / "balancers"
TIMEOUT_S = 600


def test_haproxy_takes_its_config():
    command = ["haproxy", "-c", "-f", BALANCERS / "haproxy.cfg"]
    subprocess.run(command, env={**os.environ, "SAPIENS_REPLICAS": "sapiens"}, check=True)


def test_envoy_takes_its_config():
    envoy = Path(sys.executable).with_name("envoy")
    subprocess.run([envoy, "--mode", "validate", "-c", BALANCERS / "envoy.yaml"], check=True)


@pytest.mark.parametrize("check", ["drain-haproxy", "drain-envoy", "kill-envoy"])
def test_no_call_fails_behind_a_balancer_although_nobody_tries_again(check):
    command = [sys.executable, ROOT / "bench" / "faults", check, "--seconds", "6", "--at", "1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    rows = [[cell.strip() for cell in line.split("|")[2:5]] for line in run.stdout.splitlines()[2:]]
    measured = {figure: value for figure, _, value in rows}
    assert measured["failed calls"] == "0", run.stdout + run.stderr
    assert int(measured["calls"]) > 16
    assert measured["60 MB there, shape of the 60 MB back"] == "(3750, 4000)"
    if check != "kill-envoy":
        assert (measured["exit status"], measured["regions that it left"]) == ("0", "0")
