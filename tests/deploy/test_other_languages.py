"""The examples in other languages get, byte by byte, what the client in Python gets."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from real_servers import running

from sapiens_client import SapiensClient

EXAMPLES = Path(__file__).parents[2] / "examples"
JAVASCRIPT = EXAMPLES / "javascript"
TIMEOUT_S = 1800  # compiling on a busy machine
# What the functions of the module return, as JSON.
ASK_FOR_ALL = """
import {{ readFile }} from "node:fs/promises";
import {{ people, pose }} from "{module}";
const [server, photo] = process.argv.slice(2), image = await readFile(photo);
const told = {{ ...await pose(server, image, {boxes}), found: (await people(server, image)).person_bboxes }};
for (const name in told) told[name].data = [...told[name].data];
console.log(JSON.stringify(told));
"""


@pytest.fixture(scope="module")
def server(repository):
    with running(repository, grpc_port=0, http_port=0) as one:
        yield one


@pytest.fixture(scope="module")
def photograph(portrait, encode, tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    path.write_bytes(encode(portrait, "JPEG"))
    return path


@pytest.fixture(scope="module")
def expected(server, photograph):
    """What the client in Python gets, as the server makes it: (H, W) float32."""
    with SapiensClient(server.grpc_url) as client:
        return client.depth(photograph).depth


@pytest.fixture(scope="module")
def cpp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cpp")
    shutil.copytree(
        EXAMPLES / "cpp", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.o", "depth")
    )
    run("make", "-C", folder, "CXXFLAGS=-O0 -Werror", f"PYTHON={sys.executable}")
    return folder / "depth"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["cpp", "node"])
def program(request, server):
    """The command of an example, and the address that it is given."""
    if request.param == "cpp":
        return (request.getfixturevalue("cpp"),), server.grpc_url
    return ("node", JAVASCRIPT / "depth.mjs"), f"http://{server.http_url}"


def test_depth_is_that_of_the_python_client(program, photograph, expected, tmp_path):
    command, url = program
    output = tmp_path / "depth.f32"
    assert run(*command, photograph, output, url) == "{} x {}\n".format(*expected.shape)
    assert output.read_bytes() == expected.astype("<f4").tobytes()


def test_the_servers_sentence_is_told(program, tmp_path):
    command, url = program
    (tmp_path / "text").write_text("no image")
    done = subprocess.run(
        [*command, tmp_path / "text", tmp_path / "out", url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert re.match(r"(400|3): .*image must be a JPEG, .* got 8 bytes", done.stderr)
    assert not (tmp_path / "out").exists()


def test_javascript_gets_keypoints_of_boxes_and_people(server, photograph, tmp_path):
    boxes = [[0, 0, 500, 500], [100, 20, 400, 300]]
    script = tmp_path / "all.mjs"
    script.write_text(ASK_FOR_ALL.format(module=JAVASCRIPT / "sapiens.mjs", boxes=boxes))
    told = json.loads(run("node", script, f"http://{server.http_url}", photograph))
    with SapiensClient(server.grpc_url) as client:
        poses, people = client.pose(photograph, np.array(boxes, np.float32)), client.people(photograph)
    for name, wanted in (("keypoints", poses.keypoints), ("scores", poses.scores), ("found", people.bboxes)):
        assert np.array_equal(np.float32(told[name]["data"]).reshape(told[name]["shape"]), wanted)


def test_a_page_in_a_browser_shows_depth_and_reaches_nothing_else_of_the_server(server):
    command = ["node", JAVASCRIPT / "serve.mjs", f"http://{server.http_url}", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pages:
        try:
            address = pages.stdout.readline().strip()
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
                quiet = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}")
                page = run(
                    "chromium", *quiet, "--virtual-time-budget=60000", "--dump-dom", f"{address}/?draw=64"
                )
            assert re.search(r"<output id=\"told\">64 x 64, -?[\d.]+ to -?[\d.]+</output>", page), page
            with pytest.raises(HTTPError, match="404"):
                urlopen(Request(f"{address}/v2/repository/index", method="POST"))
        finally:
            pages.terminate()
