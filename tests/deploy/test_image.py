"""The image, built and run."""

from __future__ import annotations

import json

from containers import container, image_config, num_processes_in, run
from programs import say

DEPTH = """
import numpy as np
from sapiens_client import SapiensClient
with SapiensClient({url!r}) as client:
    print(client.depth(np.zeros((80, 60, 3), np.uint8)).depth.shape)
"""
RIGHTS = """
import os
status = dict(line.split(":\\t") for line in open("/proc/1/status").read().splitlines() if ":\\t" in line)
try:
    open("/written", "w")
except OSError as error:
    print(os.getuid(), status["Uid"].split()[0], int(status["CapEff"], 16), error.strerror)
"""
FACTS = """
import json, numpy, pathlib
print(json.dumps({
    "numpy": numpy.__version__,
    "licences": sorted(path.name for path in pathlib.Path("/licenses/sapiens-triton").iterdir()),
    "left": [path for path in ("/src", "/wheels", "/wheelhouse") if any(pathlib.Path(path).glob("*"))],
}))
"""


def test_the_image_says_what_it_is(image):
    config = image_config(image)
    labels = config["Labels"]
    prefix = "org.opencontainers.image."
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["/opt/nvidia/nvidia_entrypoint.sh", "sapiens"]
    assert config["HealthCheck"]
    assert (labels[f"{prefix}licenses"], labels[f"{prefix}revision"]) == ("Apache-2.0", "test")
    facts = json.loads(
        run("podman", "run", "--rm", "--no-healthcheck", "--entrypoint=python3", image, "-c", FACTS)
    )
    assert facts["numpy"].startswith("1.")
    assert facts["licences"] == ["LICENSE", "NOTICE"]
    assert facts["left"] == []


def test_a_container_answers_and_ends_and_builds_its_engines_once(image, volume):
    stops = []
    for is_first in (True, False):
        with container(image, "up", "--tasks", "depth", volume=volume) as running:
            assert ("building the python engine" in running.logs()) == is_first
            assert running.python(DEPTH.format(url=running.grpc_url)) == "(80, 60)"
            assert running.python(RIGHTS) == "1000 1000 0 Read-only file system"
            namespace = running.namespace()
            assert num_processes_in(namespace) > 1
            seconds, status = running.stopped()
            assert status == 0, running.logs()
            assert num_processes_in(namespace) == 0
            stops.append(seconds)
    say(f"containers took {', '.join(f'{each:.1f}' for each in stops)} s to stop")
    assert run("podman", "ps", "--all", "--quiet") == ""
