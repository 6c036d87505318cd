"""`sapiens models` at real servers."""

import json
import socket

import pytest
from typer.testing import CliRunner

from sapiens_client.cli.commands import app


@pytest.fixture
def run(tasks_server):
    return lambda *options: CliRunner().invoke(app, ["models", "--url", tasks_server.grpc_url, *options])


def test_the_table_tells_networks_labels_engines_and_licences(run):
    shown = run("--wait", "20")
    assert shown.exit_code == 0, shown.output
    rows = {words[0]: " ".join(words[1:]) for words in map(cells, shown.stdout.splitlines()) if words[0]}
    assert list(rows)[1:] == ["depth", "normal", "seg", "pose", "features", "detect"]
    assert "sapiens custom 17 coco python float32" in rows["pose"]
    assert "nanodet" in rows["detect"]


def cells(line):
    return [cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] or [""]


def test_programs_get_everything_as_json(run):
    cards = json.loads(run("--json").stdout)
    depth = cards[0]
    assert (depth["name"], depth["info"]["task"], depth["info"]["untrained"]) == ("depth", "depth", False)
    assert depth["parity"]["max_error"] >= 0
    assert list(depth["steps"]) == ["dense_preprocess", "depth_engine", "depth_postprocess"]
    assert all(isinstance(load["num_requests"], int) for load in depth["steps"].values())


def test_without_a_server_it_says_so():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead_address = f"127.0.0.1:{listener.getsockname()[1]}"
    shown = CliRunner().invoke(app, ["models", "--url", dead_address])
    assert shown.exit_code == 1
    assert "a Triton server must answer at" in str(shown.exception)
