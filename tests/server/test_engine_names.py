"""Engines whose tensors are known by their places, as Triton knows AOTInductor's, on the real server.

Their configs are those that export writes; what runs them here is the Python backend, which the server has.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from real_servers import running
from torch._inductor.package import package_aoti

from sapiens_client import SapiensClient
from sapiens_client.tasks.dense import dense_results
from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.triton.package import Target
from sapiens_export.parity import pipeline
from sapiens_export.repository.adapters import write_adapter
from sapiens_export.repository.manifest import installed_engine
from sapiens_export.repository.write import write_models
from sapiens_server import ServerStartError, serve

INPUT_HW = (64, 48)
TASKS = ("depth", "normal", "seg", "pose", "detect")
TRITONS_OWN = re.compile(
    r'^(platform|default_model_filename): "[^"]*"\n|^model_warmup \{.*?^\}\n', re.M | re.S
)


@pytest.fixture(scope="module")
def repository(tasks_repository, tmp_path_factory):
    """The networks of `tasks_repository` as engines of Triton's own AOTInductor backend, but for its name."""
    folder = tmp_path_factory.mktemp("places") / "models"
    for task in TASKS:
        source = tasks_repository / f"{task}_engine"
        engine = installed_engine(source)
        new = replace(
            engine,
            info=replace(engine.info, runtime="aoti"),
            serving=replace(engine.serving, cpu_instances=1),
        )
        write_models(folder, new, engine=None, facts={})
        config = folder / source.name / "config.pbtxt"
        text = config.read_text()
        assert 'platform: "torch_aoti"' in text
        config.write_text(TRITONS_OWN.sub("", text).replace('backend: "pytorch"', 'backend: "python"'))
        version = folder / source.name / "1"
        shutil.copy2(source / "1" / ENGINE_FILES["python"], version)
        write_adapter(version, new.spec.engine)
    for manifest in folder.glob("*/manifest.json"):  # once `people_pose` and `human` are written
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "runtime": "python"}))
    return folder


@pytest.fixture(scope="module")
def client(repository):
    with running(repository, grpc_port=0) as server, SapiensClient(server.grpc_url) as client:
        yield client


def test_every_ensemble_finds_their_tensors(client, engine_of, photo, encode):
    encoded = encode(photo)
    depth = pipeline.depth(encoded, engine_of("depth"), INPUT_HW)
    np.testing.assert_allclose(client.depth(photo).depth, depth, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(
        client.seg(photo).class_map, pipeline.classes(encoded, engine_of("seg"), INPUT_HW)
    )
    kinds = dict.fromkeys(("depth", "normal", "seg"), dict)
    human = client._ask(photo, lambda call: dense_results(call, "human", kinds), {})
    np.testing.assert_array_equal(human["depth"]["depth"], client.depth(photo).depth)
    np.testing.assert_array_equal(human["normal"]["normals"], client.normal(photo).normals)


def test_the_model_that_calls_engines_finds_them_too(client, photo):
    boxes = [[0, 0, 90, 120], [5, 5, 60, 100]]
    assert client.pose(photo, boxes).keypoints.shape == (2, 17, 2)
    everybody = client.people(photo, whole_image_if_nobody=True)
    alone = client.pose(photo, everybody.bboxes)
    np.testing.assert_allclose(everybody.keypoints, alone.keypoints, rtol=0, atol=1e-3)


def test_a_package_for_another_machine_is_refused_with_what_it_needs(depth_repository, tmp_path):
    shutil.copytree(depth_repository, tmp_path / "models")
    version = tmp_path / "models" / "depth_engine" / "1"
    metadata = tmp_path / "model.wrapper_metadata.json"
    foreign = replace(Target.here(torch.device("cpu")), machine="riscv64", torch_release="1.13")
    metadata.write_text(json.dumps(foreign.to_metadata()))
    package_aoti(str(version / ENGINE_FILES["aoti"]), [str(metadata)])
    words = r"model\.pt2 is compiled for .* needs torch release 1\.13, .*; machine riscv64, .* export it"
    with pytest.raises(ServerStartError, match=words), serve(tmp_path / "models", grpc_port=0):
        pass
