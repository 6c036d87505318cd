"""`sapiens up`, run as people run it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

from sapiens_client import SapiensClient

SAPIENS = Path(sys.executable).parent / "sapiens"


@contextmanager
def up(cache: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [SAPIENS, "up", "--cache", cache, "--grpc-port", "0", *words]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_up_serves_and_builds_nothing_again(tmp_path):
    for is_first in (True, False):
        with up(tmp_path, "--tasks", "depth", "--size", "demo") as process:
            found = re.match(r"serving at (\S+): dense_preprocess, depth,", process.stdout.readline())
            assert found, process.communicate()
            with SapiensClient(found[1]) as client:
                assert client.depth(np.zeros((8, 6, 3), np.uint8)).model.size == "demo"
            process.send_signal(signal.SIGINT)
            errors = process.communicate()[1]
            assert process.returncode == 0
            assert ("depth: building the python engine in float32" in errors) == is_first


def test_interrupted_while_it_exports_it_leaves_no_engine(tmp_path):
    with up(tmp_path, "--tasks", "seg") as process:
        assert process.stderr.readline().startswith("seg: asking")
        process.send_signal(signal.SIGTERM)
        assert process.communicate()[1].splitlines()[-1] == "sapiens up: interrupted"
        assert process.returncode == 130
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--tasks", "depht"), 2, "--tasks must be of depth, "),
        (("--tasks", "depth", "--size", "7b"), 1, "got 7b"),
        (("--size", "7b"), 2, "--size must be one of demo, "),
        (("--family", "sapiens2"), 2, "--family is for released sizes"),
        (("--family", "sapiens3", "--size", "1b"), 2, "--family must be of sapiens, sapiens2"),
        (("--family", "sapiens2", "--size", "0.3b"), 2, "--size must be one of demo, 0.1b, 0.4b, "),
        (("--family", "sapiens2", "--size", "0.4b"), 1, "must be accepted before they are downloaded"),
        (("--tasks", "depth", "--size", "1b"), 1, "must be accepted before they are downloaded"),
        (("--repository", "x"), 2, "takes no --repository"),
        (("--no-such-option",), 2, "No such option: --no-such-option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_served_is_said_at_once(words, status, message, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("COLUMNS", "200")
    with up(tmp_path / "cache", *words) as process:
        errors = process.communicate()[1]
    assert (process.returncode, message in " ".join(errors.split())) == (status, True), errors
    assert not (tmp_path / "cache").exists()
