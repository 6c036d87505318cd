"""The Compose file for machines without a GPU, run."""

import os
import subprocess
import sys
from pathlib import Path

from containers import IMAGE, PATIENCE_S, ROOT, environment, free_ports, loopback, run
from real_servers import becomes_true

from sapiens_client import SapiensClient

FILES = (ROOT / "docker" / "compose.cpu.yaml", Path(__file__).with_name("host_network.yaml"))
NAME = f"sapiens-test-{os.getpid()}"


def compose(variables, *words):
    files = [word for path in FILES for word in ("-f", path)]
    command = [Path(sys.executable).parent / "podman-compose", "-p", NAME, *files, *words]
    subprocess.run(command, env=environment() | variables, capture_output=True, text=True, check=True)


def test_up_answers_and_down_leaves_nothing(image, photo):
    assert image == IMAGE
    ports = free_ports()
    variables = {**loopback(ports), "TEST_IMAGE": image, "SAPIENS_TASKS": "depth"}
    try:
        compose(variables, "up", "--no-build", "--detach")
        (name,) = run("podman", "ps", "--format", "{{.Names}}").splitlines()
        with SapiensClient(f"127.0.0.1:{ports[0]}") as client:
            assert becomes_true(client.ready, PATIENCE_S), run("podman", "logs", name)
            assert client.depth(photo).depth.shape == photo.shape[:2]
        compose(variables, "stop")
        assert run("podman", "inspect", "--format", "{{.State.ExitCode}}", name) == "0"
    finally:
        compose(variables, "down", "--volumes")
    assert run("podman", "ps", "--all", "--quiet") == ""
    assert NAME not in run("podman", "volume", "ls", "--quiet")
