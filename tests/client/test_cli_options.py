"""The command against a fake server: probes, logs, headers, standard input, JSON, help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from sapiens_client.cli.group import ABOUT, unwrapped
from sapiens_client.cli.main import app_with
from sapiens_client.testing import FakeServer

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(persons=2) as server:
        yield server


@pytest.fixture
def sapiens(server, tmp_path) -> Run:
    def run(*arguments: object, content: bytes = b"", **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from sapiens_client.cli.main import main; main()", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "SAPIENS_URL": server.url, **variables},
            input=content,
            capture_output=True,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run


@pytest.fixture
def png(tmp_path, photo, encode) -> Path:
    (tmp_path / "a.png").write_bytes(encode(photo))
    return Path("a.png")


def test_ready_is_an_exit_status(sapiens, server, dead_url):
    done = sapiens("ready")
    assert (done.returncode, done.stdout) == (0, "ready\n")
    server.drain()
    done = sapiens("ready", "--timeout", 0.2)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Server exiting" in done.stderr
    done = sapiens("ready", "--timeout", 0.2, "--url", dead_url)
    assert (done.returncode, "refused" in done.stderr) == (1, True)
    assert sapiens("ready", "--timeout", "soon").returncode == 2


def test_standard_input_is_an_image(sapiens, photo, encode, tmp_path):
    done = sapiens("depth", "-", content=encode(photo))
    assert (done.returncode, done.stdout) == (0, "out/stdin_depth.png\n")
    assert (tmp_path / "out" / "stdin_depth.png").is_file()
    done = sapiens("depth", "-", content=b"no image")
    assert done.returncode == 1
    assert done.stderr.startswith("-: image must be")


def test_quiet_leaves_what_failed(sapiens, png, tmp_path):
    done = sapiens("depth", "-q", png)
    assert (done.returncode, done.stdout, done.stderr) == (0, "out/a.png_depth.png\n", "")
    (tmp_path / "b.png").write_text("no image")
    done = sapiens("depth", "--quiet", png, "b.png")
    assert done.returncode == 1
    assert [line[:14] for line in done.stderr.splitlines()] == ["b.png: image m"]


def test_json_is_a_line_per_image(sapiens, server, png, tmp_path):
    (tmp_path / "b.png").write_text("no image")
    done = sapiens("analyze", "--task", "depth", "--task", "people", "--json", "-q", png, "b.png")
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["image"], first["errors"], first["results"]["people"]["persons"]) == ("a.png", {}, 2)
    depth = first["results"]["depth"]
    assert (depth["files"], depth["url"]) == (["out/a.png_depth.png"], server.url)
    assert depth["request_id"] in {request.request_id for request in server.requests}
    assert (second["image"], second["results"]) == ("b.png", {})
    assert all("image must be" in error for error in second["errors"].values())


def test_headers_are_sent(sapiens, server, png):
    done = sapiens("depth", png, "--header", "X-Team: blue", "--header", "x-time:12:30")
    assert done.returncode == 0, done.stderr
    metadata = server.requests[-1].metadata
    assert (metadata["x-team"], metadata["x-time"]) == ("blue", "12:30")
    done = sapiens("depth", png, "--header", "x-team")
    assert (done.returncode, "NAME:VALUE" in done.stderr) == (2, True)


def test_requests_are_logged_for_who_wants_to_see_them(sapiens, server, png):
    told = "DEBUG ModelInfer depth {id} answered by {url} at try 1 in "
    for arguments, variables in (("-v",), {}), ((), {"SAPIENS_LOG": "debug"}):
        done = sapiens("depth", png, *arguments, **variables)
        assert told.format(id=server.requests[-1].request_id, url=server.url) in done.stderr
        assert done.stderr.count(" ModelInfer ") == 1
    assert "ModelInfer" not in sapiens("depth", png).stderr
    done = sapiens("depth", png, SAPIENS_LOG="loud")
    assert (done.returncode, "SAPIENS_LOG must be one of debug" in done.stderr) == (2, True)


def test_completion_knows_commands_and_options(sapiens):
    words = {"_SAPIENS_COMPLETE": "complete_bash"}
    program = "import sys; sys.argv[0] = 'sapiens'; from sapiens_client.cli.main import main; main()"
    for line, expected in (("sapiens ser", "serve"), ("sapiens depth --for", "--format")):
        words |= {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | words,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == [expected], done.stderr


def test_version_and_help_load_no_more_than_they_need(sapiens):
    program = "import sys; sys.argv = ['sapiens', {!r}]; from sapiens_client.cli.main import main\n"
    program += "try: main()\nfinally: print({{'numpy', 'asyncio', 'grpc', 'torch'}} & {{*sys.modules}})"
    for option in ("--version", "--help"):
        command = [sys.executable, "-c", program.format(option)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "set()"
    for name in ABOUT:
        assert f" {name} " in done.stdout


def test_the_list_of_commands_says_what_they_say_of_themselves():
    commands = typer.main.get_command(app_with([*ABOUT])).commands
    assert {name: command.help.partition("\n\n")[0] for name, command in commands.items()} == {**ABOUT}


def test_paragraphs_are_one_line():
    assert unwrapped("One\n    two.\n\n    Three\n    four.\n    ") == "One two.\n\nThree four."
    for command in typer.main.get_command(app_with([*ABOUT])).commands.values():
        assert "\n" not in command.help.replace("\n\n", "")
