"""Compare `fleet_simulation.py` with two real servers that get the same requests at the same moments.

    python bench/fleet_check.py [--seconds 60] [--wait-ms 400]

The servers have the stand-in of `bench/faults`: four instances each, which wait as long as a request says. A
long wait makes little of what a busy machine adds. The client is the SDK's, which chooses the server. At 0.7
and 0.9 of what they can, the times of answers are compared; exit status 1: one is off by more than 15 %.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

import numpy as np
from fleet_simulation import Fleet, Simulation, arrivals
from numpy.typing import NDArray

from sapiens_client import AsyncSapiensClient
from sapiens_server import serve

STAND_IN = Path(__file__).parent / "faults" / "stand_in"
NUM_SERVERS, NUM_SLOTS = 2, 4
SHARES = (0.7, 0.9)
MOST_OFF = 0.15
QUANTILES = {"mean": None, "p50": 0.5, "p90": 0.9, "p99": 0.99}


async def measured(urls: list[str], times: NDArray[np.float64], wait_ms: int) -> NDArray[np.float64]:
    """Send requests at their moments; return how long each took, seconds."""
    took_s = np.full(len(times), np.nan)
    image = np.array([wait_ms, 0, 1, 3], np.uint32).tobytes()

    async def ask(number: int) -> None:
        sent_s = time.monotonic()
        await client.depth(image)
        took_s[number] = time.monotonic() - sent_s

    async with AsyncSapiensClient(urls) as client:
        await client.depth(image)
        began_s = time.monotonic()
        asked = []
        for number, when_s in enumerate(times):
            await asyncio.sleep(max(0.0, began_s + when_s - time.monotonic()))
            asked.append(asyncio.create_task(ask(number)))
        await asyncio.gather(*asked)
    return took_s


def figure(took_s: NDArray[np.float64], share: float | None) -> float:
    """Return the mean, or what a share of the answers took at most, seconds."""
    return float(np.mean(took_s) if share is None else np.quantile(took_s, share))


def compared(urls: list[str], share: float, seconds: float, wait_ms: int) -> float:
    """Print one load's lines of the table; return by how much the worst of them is off."""
    wait_s = wait_ms / 1e3
    fleet = Fleet(replicas=NUM_SERVERS, slots=NUM_SLOTS, batch_size=1, image_s=wait_s, around_s=0.0)
    times = arrivals(share * NUM_SERVERS * fleet.rate_of_one, seconds)
    played = Simulation(fleet, times).run().took_s
    real = asyncio.run(measured(urls, times, wait_ms))
    worst = 0.0
    for name, quantile in QUANTILES.items():
        is_, said = figure(real, quantile), figure(played, quantile)
        worst = max(worst, abs(said / is_ - 1))
        print(
            f"| {share:g} | {len(times)} | {name} | {is_:.3f} | {said:.3f} | {said / is_ - 1:+.1%} |",
            flush=True,
        )
    return worst


def main() -> int:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    parser.add_argument("--wait-ms", type=int, default=400, help="what a request takes")
    options = parser.parse_args()
    with serve(STAND_IN, grpc_port=0) as one, serve(STAND_IN, grpc_port=0) as other:
        urls = [one.grpc_url, other.grpc_url]
        print("| load | requests | | servers, s | simulation, s | off |\n|---|---|---|---|---|---|")
        worst = max(compared(urls, share, options.seconds, options.wait_ms) for share in SHARES)
    return int(worst > MOST_OFF)


if __name__ == "__main__":
    sys.exit(main())
