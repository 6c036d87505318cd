"""Arrays finished by the client equal those finished by the server, and travel in fewer bytes."""

from __future__ import annotations

import numpy as np
import pytest
from real_servers import running

from sapiens_client import ClientOptions, InvalidInputError, ModelNotServedError, SapiensClient
from sapiens_client.testing import FakeServer

ARRAYS = {"depth": "depth", "normal": "normals", "seg": "class_map"}
ODD_IMAGES = ["1x1", "3x2000", "portrait", "exif-rotated", "16-bit"]


def array(client, task, image):
    return getattr(getattr(client, task)(image), ARRAYS[task])


@pytest.fixture(scope="module")
def port(tasks_server):
    return tasks_server.grpc_url.rpartition(":")[2]


@pytest.fixture(scope="module")
def finishing(tasks_server):
    with SapiensClient(tasks_server.grpc_url, options=ClientOptions(output="network")) as client:
        yield client


@pytest.fixture(scope="module")
def plain(tasks_server):
    with SapiensClient(tasks_server.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def remote(port):
    """A client that cannot tell that the server is on this machine."""
    with SapiensClient(f"ipv4:127.0.0.1:{port}") as client:
        yield client


@pytest.mark.parametrize("task", ARRAYS)
@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_finishing_here_gives_what_finishing_there_gives(kind, task, finishing, plain, odd_images):
    image = odd_images[kind]
    np.testing.assert_array_equal(array(finishing, task, image), array(plain, task, image))


def test_a_result_finished_here_is_like_any_other(finishing, plain, photo):
    here, there = finishing.depth(photo), plain.depth(photo)
    assert not here.depth.flags.writeable
    assert (here.model, here.image_hw) == (there.model, there.image_hw)
    assert here.timing.finish_s > 0 == there.timing.finish_s
    assert here.timing.response_bytes < there.timing.response_bytes


@pytest.mark.parametrize("task", ARRAYS)
def test_what_a_distant_server_answers_travels_in_the_fewer_bytes(task, remote, plain, photo):
    small = np.ascontiguousarray(photo[:4, :4])
    for image, is_finished_here in ((photo, task != "seg"), (small, False)):
        result = getattr(remote, task)(image)
        assert (result.timing.finish_s > 0) is is_finished_here
        np.testing.assert_array_equal(getattr(result, ARRAYS[task]), array(plain, task, image))


def test_beside_the_server_arrays_are_finished_here_where_that_saves_much(plain, tasks_server, photo):
    large = np.tile(photo, (8, 10, 1))
    with SapiensClient(tasks_server.grpc_url, options=ClientOptions(output="image")) as client:
        there = client.normal(large)
    here = plain.normal(large)
    assert here.timing.finish_s > 0 == there.timing.finish_s
    np.testing.assert_array_equal(here.normals, there.normals)
    assert plain.normal(photo).timing.finish_s == plain.seg(large).timing.finish_s == 0


def test_an_analysis_from_afar_equals_that_from_nearby(remote, plain, photo):
    far, near = remote.analyze(photo), plain.analyze(photo)
    for task, name in ARRAYS.items():
        np.testing.assert_array_equal(getattr(far[task], name), getattr(near[task], name))
    assert far.depth.timing.finish_s > 0
    assert far.depth.timing.response_bytes < near.depth.timing.response_bytes


def test_an_image_that_cannot_be_used_gets_the_servers_reason(remote):
    with pytest.raises(InvalidInputError, match=r"image must be a JPEG.*send a complete file"):
        remote.depth(b"no image")


def test_without_the_smaller_array_the_larger_one_will_do(depth_repository, photo, tmp_path):
    served = tmp_path / "models"
    served.mkdir()
    for model in depth_repository.iterdir():
        if model.name != "depth_raw":
            (served / model.name).symlink_to(model)
    with running(served, grpc_port=0) as server:
        far = f"ipv4:{server.grpc_url.replace('localhost', '127.0.0.1')}"
        with SapiensClient(far) as client:
            assert client.depth(photo).timing.finish_s == 0
        options = ClientOptions(output="network")
        with SapiensClient(far, options=options) as client, pytest.raises(ModelNotServedError, match="_raw"):
            client.depth(photo)


def test_another_network_of_the_task_is_finished_by_its_own_settings(photo):
    with FakeServer(models=("normal", "normal_2b")) as server:
        options = ClientOptions(output="network")
        with SapiensClient(server.url, options=options) as client:
            client.normal(photo, model="normal_2b")
        asked = {request.model for request in server.requests}
    assert {"normal_2b", "normal_2b_raw", "normal_2b_postprocess"} <= asked


@pytest.mark.parametrize("option", ["output", "compression"])
def test_a_choice_that_does_not_exist_is_refused(option):
    with pytest.raises(InvalidInputError, match=f"{option} must be one of.*got 'best'"):
        ClientOptions(**{option: "best"})
