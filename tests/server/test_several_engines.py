"""Several networks of one task in one repository, on a real server, from a folder and from object storage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from real_servers import running
from typer.testing import CliRunner

from sapiens_client import InferenceError, ModelNotServedError, SapiensClient
from sapiens_client.cli.commands import app
from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_export.engines.torchscript import engine_from_torchscript
from sapiens_export.exporter import export_engine
from sapiens_export.parity import pipeline
from sapiens_export.repository.serving import Serving
from sapiens_export.weights.sources import source_from_seed
from sapiens_server import RunningServer, ServerStartError, serve

INPUT_HW = (64, 48)
BOXES = [[5 * index, 3 * index, 5 * index + 40, 3 * index + 60] for index in range(10)]


@pytest.fixture(scope="module")
def server(several_repository) -> Iterator[RunningServer]:
    with running(several_repository, grpc_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def client(server) -> Iterator[SapiensClient]:
    with SapiensClient(server.grpc_url) as client:
        yield client


def in_process(repository, name, encoded):
    engine = engine_from_torchscript(repository / f"{name}_engine" / "1" / ENGINE_FILES["python"])
    return pipeline.depth(encoded, engine, INPUT_HW)


@pytest.mark.parametrize("name", ["depth", "depth_2b"])
def test_each_ensemble_equals_its_engine_in_process(name, client, several_repository, photo, encode):
    encoded = encode(photo)
    result = client.depth(encoded, model=name)
    expected = in_process(several_repository, name, encoded)
    np.testing.assert_allclose(result.depth, expected, rtol=0, atol=1e-5)


def test_two_networks_differ_and_the_one_without_a_name_is_the_default(client, photo):
    default, other = client.depth(photo).depth, client.depth(photo, model="depth_2b").depth
    np.testing.assert_array_equal(default, client.depth(photo, model="depth").depth)
    assert np.abs(default - other).max() > 1e-3


def test_boxes_are_split_for_a_named_pose_too(client, photo):
    together = client.pose(photo, BOXES, model="pose_0.3b")
    assert (together.keypoints.shape, together.keypoint_set.name) == ((10, 17, 2), "coco")
    alone = client.pose(photo, BOXES[9:], model="pose_0.3b")
    np.testing.assert_allclose(together.scores[9:], alone.scores, rtol=0, atol=1e-5)
    assert client.pose(photo, [], model="pose_0.3b").keypoints.shape == (0, 17, 2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("depth_9b", "depth_9b"),
        ("pose_0.3b", r"for depth with outputs depth, image_hw, got 'pose_0.3b' at .* for pose with"),
        ("depth_2b_raw", r"got 'depth_2b_raw' at .* for depth with depth_map, image_hw; name another"),
        ("depth_2b_engine", "'depth_2b_engine' at .* is no model of Sapiens"),
    ],
    ids=["absent", "another task", "raw", "step"],
)
def test_a_model_that_is_no_ensemble_for_the_task_is_refused(model, message, client, photo):
    with pytest.raises(ModelNotServedError, match=message):
        client.depth(photo, model=model)


def test_a_task_that_has_named_networks_alone_is_called_by_their_names(client, photo):
    with pytest.raises(ModelNotServedError, match="pose"):
        client.pose(photo)


def test_the_people_model_is_no_pose_ensemble(tasks_server, photo):
    with SapiensClient(tasks_server.grpc_url) as client:
        with pytest.raises(ModelNotServedError, match=r"got 'people_pose' .* bbox_scores"):
            client.pose(photo, model="people_pose")
        np.testing.assert_array_equal(
            client.detect(photo, model="detect").scores, client.detect(photo).scores
        )


def test_the_command_line_takes_a_model_too(server, photo, encode, tmp_path):
    (tmp_path / "a.png").write_bytes(encode(photo))
    options = ["--output", tmp_path / "out", "--url", server.grpc_url, "--format", "npy"]
    words = [str(word) for word in ("depth", tmp_path / "a.png", "--model", "depth_2b", *options)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    with SapiensClient(server.grpc_url) as client:
        expected = client.depth(photo, model="depth_2b").depth
    np.testing.assert_allclose(np.load(tmp_path / "out" / "a.png_depth_2b.npy"), expected, rtol=0, atol=1e-6)


class FailsToCompute(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float() @ torch.zeros(7, 7)


def with_an_engine_that_fails(network, repository, serving):
    export_engine(source_from_seed(network, 0), repository, serving=serving)
    torch.jit.script(FailsToCompute()).save(repository / "depth_engine" / "1" / ENGINE_FILES["python"])
    return repository


def test_an_engine_that_cannot_compute_fails_to_load(golden_networks, tmp_path):
    repository = with_an_engine_that_fails(
        golden_networks["depth"], tmp_path / "models", Serving(warmup=(2,))
    )
    with pytest.raises(ServerStartError, match=r"failed to load 'depth_engine'.*\(6144x3 and 7x7\)"):
        serve(repository, grpc_port=0)


def test_without_warming_up_it_fails_at_the_first_request(golden_networks, tmp_path, photo):
    repository = with_an_engine_that_fails(golden_networks["depth"], tmp_path / "models", Serving(warmup=()))
    with (
        running(repository, grpc_port=0) as server,
        SapiensClient(server.grpc_url) as client,
        pytest.raises(InferenceError),
    ):
        client.depth(photo)


def test_several_instances_of_an_engine_answer(golden_networks, tmp_path, photo):
    repository, serving = tmp_path / "models", Serving(instances=2, warmup=(1, 4))
    export_engine(source_from_seed(golden_networks["depth"], 0), repository, serving=serving)
    with running(repository, grpc_port=0) as server, SapiensClient(server.grpc_url) as client:
        assert "depth_engine_0_1" in server.log()
        assert client.depth(photo).depth.shape == photo.shape[:2]


@pytest.mark.slow
def test_a_repository_may_be_copied_to_object_storage(
    object_storage, several_repository, tmp_path, photo, encode
):
    """The server stages every model alone in a folder of its own, so nothing may refer to its neighbours."""
    shutil.copytree(several_repository, tmp_path / "models")
    encoded = encode(photo)
    with object_storage(tmp_path) as bucket, running(f"{bucket}/models", grpc_port=0) as server:
        assert server.models == ()
        with SapiensClient(server.grpc_url) as client:
            result = client.depth(encoded, model="depth_2b")
            assert client.pose(encoded, BOXES, model="pose_0.3b").keypoints.shape == (10, 17, 2)
    expected = in_process(several_repository, "depth_2b", encoded)
    np.testing.assert_allclose(result.depth, expected, rtol=0, atol=1e-5)


def test_object_storage_without_models_is_said(object_storage, tmp_path):
    message = "repository path is not a valid directory; correct"
    with object_storage(tmp_path) as bucket, pytest.raises(ServerStartError, match=message):
        serve(f"{bucket}/models", grpc_port=0)
