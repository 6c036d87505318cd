"""docs/protocol.md: what it says is what is served."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from sapiens_core.contract.model_info import ModelInfo
from scripts import write_protocol

ROOT = Path(__file__).parents[1]
PAGE = write_protocol.PATH.read_text()
STEP = re.compile(r".*_(preprocess|engine|postprocess)")


def configs():
    paths = sorted((ROOT / "model_repository").glob("*/config.pbtxt"))
    return [path for path in paths if not STEP.fullmatch(path.parent.name)]


def written(tensor):
    return tensor.name, DataType.Name(tensor.data_type).removeprefix("TYPE_"), len(tensor.dims)


def test_the_tables_are_those_of_the_registry():
    assert write_protocol.text() == PAGE, "run `make protocol`"
    assert set(write_protocol.MEANINGS) == set(
        re.findall(r"^\| `(\w+)` \| [^|]+ \|$", PAGE, flags=re.MULTILINE)
    )


@pytest.mark.parametrize("path", configs(), ids=lambda path: path.parent.name)
def test_the_tables_are_those_of_the_committed_models(path):
    config = text_format.Parse(path.read_text(), ModelConfig())
    rows = re.findall(rf"^\| `{config.name}` \| ([^|]*) \| (.*) \| (.*) \|$", PAGE, flags=re.MULTILINE)
    (inputs, outputs) = next(row[1:] for row in rows if row[0] != "sapiens2")
    for tensors, cell in ((config.input, inputs), (config.output, outputs)):
        told = [
            (name, dtype, dims.count(",") + 1)
            for name, dtype, dims in re.findall(r"`(\w+)` (\w+) \[(.*?)\]", cell)
        ]
        assert sorted(map(written, tensors)) == sorted(told)


def test_every_fact_that_a_config_tells_is_named():
    for name in ModelInfo.__annotations__:
        assert f"`{name}`" in PAGE


def test_the_request_that_is_shown_is_one():
    (length,) = re.findall(r"^Inference-Header-Content-Length: (\d+)$", PAGE, flags=re.MULTILINE)
    (described,) = re.findall(r"^(\{\"inputs\".*?\})<48213 bytes", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(described) == int(length)
    assert json.loads(described)["inputs"][0]["parameters"]["binary_data_size"] == 48213


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\((?!https?://)([^)]+)\)", PAGE)
    for link in links:
        name, _, heading = link.partition("#")
        target = write_protocol.PATH.parent / name
        assert target.exists(), link
        lines = target.read_text().splitlines() if heading else []
        assert not heading or heading in [line.lstrip("# ").lower().replace(" ", "-") for line in lines], link
    assert links
