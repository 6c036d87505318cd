"""JSON documents as dataclasses."""

import json
from dataclasses import asdict, replace

import pytest

from sapiens_export.documents import from_json
from sapiens_export.networks.config import NANODET, DetectorConfig, NetworkConfig
from sapiens_export.repository.manifest import MANIFEST_FILE, InstalledEngine, installed_engine, manifest
from sapiens_export.repository.serving import Serving


@pytest.fixture
def new(tiny_network):
    from sapiens_export.exporter import EngineOptions, model_info

    info = model_info(tiny_network, EngineOptions(), is_trained=True)
    return InstalledEngine(tiny_network, info, Serving(gpus=(0, 1)), "2b")


def test_what_was_written_is_read(tiny_network):
    for document in (tiny_network, replace(tiny_network, position_hw=(64, 48)), NANODET, Serving(gpus=(1,))):
        assert from_json(type(document), json.dumps(asdict(document))) == document


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (NetworkConfig, {"embed_dim": 32.5}, "embed_dim must be a valid integer, got 32.5"),
        (NetworkConfig, {"input_hw": [64, "48"]}, "input_hw.1 must be a valid integer, got '48'"),
        (NetworkConfig, {"colour": 3}, "colour is unknown"),
        (NetworkConfig, {"num_heads": 3}, "embed_dim must be a multiple of num_heads, got 32 and 3"),
        (DetectorConfig, {"min_score": None}, "min_score must be a valid number, got None"),
        (Serving, {"gpus": [0, True]}, "gpus.1 must be a valid integer, got True"),
        (Serving, {"instances": 0}, "instances must be from 1 to 2147483647, got 0"),
    ],
)
def test_what_differs_is_named_with_what_was_seen(kind, change, message, tiny_network):
    document = {NetworkConfig: tiny_network, DetectorConfig: NANODET, Serving: Serving()}[kind]
    with pytest.raises(ValueError, match=message):
        from_json(kind, json.dumps(asdict(document) | change))


def test_an_engine_is_read_from_its_manifest(new, tmp_path):
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(manifest(new, {"seed": 2})))
    assert installed_engine(tmp_path) == new


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip_test": "no"}, "flip_test must be a valid boolean, got 'no'"),
        ({"runtime": "caffe"}, "runtime must be .*'python'.*, got 'caffe'"),
        ({"serving": {"batch": 4}}, "batch is unknown"),
        ({"network": 3}, "it must be an object, got 3"),
        ({"format": 2}, "it has format 2"),
    ],
)
def test_what_an_engine_cannot_be_is_refused_with_the_manifest_s_name(change, message, new, tmp_path):
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(manifest(new, {}) | change))
    with pytest.raises(ValueError, match=f"{MANIFEST_FILE} must be of this release.*{message}"):
        installed_engine(tmp_path)
