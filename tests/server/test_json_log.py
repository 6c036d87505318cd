"""`sapiens serve --log-format json`, and the one sentence that each line is made of."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import datetime
from subprocess import PIPE

import numpy as np
import pytest
import tritonclient.grpc as triton
from supervised import CONFIG, PATIENCE_S

from sapiens_server.json_log import json_line

COMMAND = "from sapiens_client.cli.main import main; main()"
MODEL = """
import sys

from sapiens_core.triton.respond import respond


class TritonPythonModel:
    def execute(self, requests):
        print("words of a model", flush=True)
        return respond(requests, ("image",), lambda image: {}[f"an {image.size}"])
"""


def run(*options):
    words = [sys.executable, "-c", COMMAND, "serve", "--log-format", "json", *options]
    return subprocess.Popen(words, stdout=PIPE, stderr=PIPE, text=True)


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (
            'E1128 20:24:04.662292 8122 model.py:5] "[request id: ab\\\\c] said \\"no\\"\\nand left"',
            {
                "level": "error",
                "source": "tritonserver",
                "where": "model.py:5",
                "request_id": "ab\\c",
                "message": '[request id: ab\\c] said "no"\nand left',
            },
        ),
        (
            'W1128 20:24:04.662292 8122 a.cc:1] "[request id: <id_unknown>] late"',
            {
                "level": "warning",
                "source": "tritonserver",
                "where": "a.cc:1",
                "message": "[request id: <id_unknown>] late",
            },
        ),
        (
            'I1128 20:24:04.1 8122 a.cc:1] "odd \\x"',
            {"level": "info", "source": "tritonserver", "where": "a.cc:1", "message": "odd \\x"},
        ),
        ("warning: restarting", {"level": "warning", "source": "sapiens", "message": "restarting"}),
        ("note: small images\nonly", {"level": "info", "source": "sapiens", "message": "small images\nonly"}),
        ("a model's {words}", {"level": "info", "source": "model", "message": "a model's {words}"}),
    ],
    ids=["server", "no id", "escapes of no JSON", "own", "own of two lines", "model"],
)
def test_a_line_becomes_its_fields(line, fields):
    told = json.loads(json_line(line))
    assert datetime.fromisoformat(told.pop("time")).tzinfo
    assert told == fields


def test_a_refused_start_is_one_json_line(tmp_path):
    process = run("--repository", str(tmp_path / "missing"))
    out, log = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (1, "")
    assert json.loads(log)["level"] == "error"
    assert "missing" in json.loads(log)["message"]


def test_every_line_is_json_and_a_failure_has_its_request_id(tmp_path):
    version = tmp_path / "picture" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    process = run("--repository", str(tmp_path), "--grpc-port", "0")
    try:
        serving = json.loads(process.stdout.readline())
        assert (serving["message"], serving["models"]) == ("serving", ["picture"])
        with triton.InferenceServerClient(serving["grpc"]) as client:
            tensor = triton.InferInput("image", [3], "UINT8").set_data_from_numpy(np.zeros(3, np.uint8))
            with pytest.raises(triton.InferenceServerException, match="KeyError"):
                client.infer("picture", [tensor], request_id="one-of-many")
    finally:
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=PATIENCE_S)
    records = [json.loads(line) for line in log.splitlines()]
    (failure,) = [record for record in records if record.get("request_id") == "one-of-many"]
    assert (failure["level"], failure["source"]) == ("error", "tritonserver")
    assert "\nKeyError: 'an 3'" in failure["message"]
    assert {"level": "info", "source": "model", "message": "words of a model"}.items() <= next(
        record for record in records if record["source"] == "model"
    ).items()
