"""The Compose files, as Docker's own Compose and podman's read them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

DOCKER = Path(__file__).parents[2] / "docker"
PROGRAMS = Path(sys.executable).parent
FILES = ("compose.yaml", "compose.cpu.yaml")


def read(file, *words, program="docker-compose"):
    command = [PROGRAMS / program, "-f", file, *words, "config"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def services(name):
    told = read(DOCKER / name, "--profile", "replicas")
    assert told.stdout, told.stderr
    return yaml.safe_load(told.stdout)["services"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("program", ["docker-compose", "podman-compose"])
def test_the_files_are_read(name, program):
    told = read(DOCKER / name, program=program)
    assert told.stdout, told.stderr
    assert "sapiens" in yaml.safe_load(told.stdout)["services"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("shm_size", "shmsize", "additional properties 'shmsize' not allowed"),
        ("read_only: true", "read_only: maybe", "invalid boolean: maybe"),
    ],
)
def test_a_mistake_is_noticed(name, right, wrong, message, tmp_path):
    mistaken = tmp_path / name
    mistaken.write_text((DOCKER / name).read_text().replace(right, wrong))
    assert message in read(mistaken).stderr


def test_every_replica_has_a_gpu_of_its_own():
    found = services("compose.yaml")
    places = [
        found[name]["deploy"]["resources"]["reservations"]["devices"] for name in ("sapiens", "sapiens-2")
    ]
    assert [(device["driver"], device["device_ids"]) for (device,) in places] == [
        ("nvidia", ["0"]),
        ("nvidia", ["1"]),
    ]
    assert found["sapiens-2"]["networks"]["default"]["aliases"] == ["sapiens"]


def test_servers_have_no_privileges_and_time_to_end():
    found = [*services("compose.yaml").items(), *services("compose.cpu.yaml").items()]
    servers = [service for name, service in found if name.startswith("sapiens")]
    assert len(servers) == 3
    for server in servers:
        assert (server["read_only"], server["cap_drop"]) == (True, ["ALL"])
        assert (server["stop_grace_period"], server["shm_size"]) == ("50s", str(6 * 2**30))


def test_what_is_mounted_is_there():
    volumes = [v for service in services("compose.yaml").values() for v in service.get("volumes", ())]
    sources = [Path(volume["source"]) for volume in volumes if volume["type"] == "bind"]
    assert len(sources) == 3
    assert all(source.is_dir() for source in sources)
    assert json.loads((DOCKER / "observability/grafana/dashboards/sapiens.json").read_text())["panels"]
