"""Networks compiled ahead of time, of both families, on the real server; it takes minutes to compile them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from real_servers import running

from sapiens_client import SapiensClient
from sapiens_client.tasks.dense import dense_result
from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.tensors import IMAGE_HW
from sapiens_core.people import person_keypoints
from sapiens_core.recipes.lookup import recipe
from sapiens_export.engines.load import engine_from_file
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.networks.config import NANODET
from sapiens_export.parity.pipeline import detect, image_result
from sapiens_export.parity.verify import engine_folders, verifications
from sapiens_export.repository.configs import step_settings
from sapiens_export.repository.serving import Serving
from sapiens_export.weights.sources import built_in_detector, source_from_seed

SERVING = Serving(portable=True, cpu_instances=1, max_batch_size=3, warmup=(1, 3))
# By family and task, with precision.
DENSE = {
    ("sapiens", "depth"): "bfloat16",
    ("sapiens", "normal"): "float32",
    ("sapiens", "seg"): "float32",
    ("sapiens", "features"): "float32",
    ("sapiens2", "seg"): "float32",
    ("sapiens2", "pointmap"): "float32",
    ("sapiens2", "matting"): "float32",
}
BOXES = np.array([[0, 0, 80, 110], [20, 10, 60, 90], [5, 5, 60, 100]], np.float32)


def name_of(family):
    return None if family == "sapiens" else "v2"


@pytest.fixture(scope="module")
def repository(golden_networks, sapiens2_config, tmp_path_factory):
    """Every task of the first family, pose with the flip test, some of the second, and the detector."""
    folder = tmp_path_factory.mktemp("aoti") / "models"
    networks = {**golden_networks, "pose": golden_networks["pose17"], "features": golden_networks["pretrain"]}
    for (family, task), precision in {**DENSE, ("sapiens", "pose"): "float32"}.items():
        of_second = family == "sapiens2"
        config = replace(sapiens2_config(task), num_hidden_layers=1) if of_second else networks[task]
        options = EngineOptions(
            runtime="aoti", precision=precision, flip_test=task == "pose", name=name_of(family)
        )
        export = export_engine(source_from_seed(config, 0), folder, options, serving=SERVING)
        assert export.parity.is_passed
    export_engine(built_in_detector(), folder, EngineOptions(runtime="aoti"), serving=SERVING)
    return folder


@pytest.fixture(scope="module")
def client(repository):
    with running(repository, grpc_port=0) as server, SapiensClient(server.grpc_url) as client:
        yield client


def engine_at(repository, own):
    return engine_from_file("aoti", repository / own.engine.name / "1" / ENGINE_FILES["aoti"], "cpu")


def spec_of(family, task):
    own = recipe(family, task)
    return own.named(name_of(family)) if name_of(family) else own


@pytest.mark.parametrize(("family", "task"), DENSE)
def test_a_served_package_equals_the_same_in_one_process(family, task, repository, client, photo, encode):
    own, encoded = spec_of(family, task), encode(photo)
    facts = json.loads((repository / own.engine.name / "manifest.json").read_text())
    settings = own.settings(tuple(facts["network"]["input_hw"]), SERVING.max_batch_size)
    expected = image_result(own, encoded, engine_at(repository, own), settings)
    arrays = client._ask(encoded, lambda call: dense_result(call, task, dict, own.name), {})
    for tensor, wanted in zip([each for each in own.outputs if each is not IMAGE_HW], expected, strict=True):
        wanted = wanted[0] if task == "features" else wanted
        np.testing.assert_allclose(
            arrays[tensor.name].astype(float), wanted.astype(float), rtol=1e-4, atol=1e-5
        )


def test_batches_of_persons_equal_the_same_in_one_process(repository, client, photo):
    own = spec_of("sapiens", "pose")
    settings = own.settings((64, 48), SERVING.max_batch_size)
    image = np.ascontiguousarray(photo[..., ::-1])
    _, scores = person_keypoints(image, BOXES, engine_at(repository, own), settings)
    np.testing.assert_allclose(client.pose(photo, BOXES).scores, scores, atol=1e-4)
    np.testing.assert_allclose(client.pose(photo, BOXES[:1]).scores, scores[:1], atol=1e-4)


def test_persons_are_found_as_in_one_process(repository, client, portrait, encode):
    own, encoded = spec_of("sapiens", "detect"), encode(portrait)
    bboxes, scores = detect(encoded, engine_at(repository, own), step_settings(NANODET, SERVING))
    found = client.detect(encoded)
    assert len(found) == 1
    np.testing.assert_allclose(found.bboxes, bboxes, atol=1e-2)
    np.testing.assert_allclose(found.scores, scores, atol=1e-4)


def test_packages_pass_again_where_they_are_served_and_tell_what_they_are_for(repository):
    outcomes = list(verifications(engine_folders(repository), "cpu"))
    assert len(outcomes) == len(DENSE) + 2
    assert all(outcome.is_passed for outcome in outcomes), outcomes
    for folder in engine_folders(repository):
        package = json.loads((folder / "manifest.json").read_text())["package"]
        assert package["torch"] == ".".join(torch.__version__.split(".")[:2])
        assert (package["device"], package["compute_capability"]) == ("cpu", "")
        with zipfile.ZipFile(folder / "1" / ENGINE_FILES["aoti"]) as archive:
            assert not [name for name in archive.namelist() if name.endswith(".cpp")]
