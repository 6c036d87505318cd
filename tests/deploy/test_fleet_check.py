"""The simulation beside two real servers. How near it is, is not looked at here: machines are noisy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).parents[2] / "bench" / "fleet_check.py"
WAIT_S = 0.4


def test_the_same_requests_are_played_and_asked():
    command = [sys.executable, CHECK, "--seconds", "5", "--wait-ms", f"{1e3 * WAIT_S:.0f}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode in (0, 1), done.stderr
    rows = re.findall(
        r"^\| (0\.\d) \| (\d+) \| (\w+) \| ([\d.]+) \| ([\d.]+) \|", done.stdout, flags=re.MULTILINE
    )
    assert [(load, figure) for load, _, figure, _, _ in rows] == [
        (load, figure) for load in ("0.7", "0.9") for figure in ("mean", "p50", "p90", "p99")
    ]
    assert all(float(real) >= WAIT_S <= float(played) for *_, real, played in rows)
    assert all(int(number) > 10 for _, number, *_ in rows)
