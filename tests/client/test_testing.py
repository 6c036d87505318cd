"""The fake server through the client, and what it does on demand."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from sapiens_client import (
    InferenceError,
    InvalidInputError,
    ModelNotServedError,
    RequestTimeoutError,
    SapiensClient,
    SapiensError,
    ServerOverloadedError,
    ServerUnavailableError,
)
from sapiens_client.testing import FakeServer, Fault
from sapiens_core.labels import class_set, keypoint_set
from sapiens_core.recipes.lookup import FAMILIES

INFER = "ModelInfer"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(persons=2) as server:
        yield server


@pytest.fixture
def client(server) -> Iterator[SapiensClient]:
    with SapiensClient(server.url, timeout_s=20) as client:
        yield client


def eventually(claim: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 60
    while not claim() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return claim()


def num_inferences(server: FakeServer) -> int:
    return sum(request.method == INFER for request in server.requests)


def test_depth_follows_the_image(client, photo):
    depth = client.depth(photo).depth
    assert (depth.shape, depth.dtype) == ((120, 90), np.float32)
    assert depth[:10].mean() > depth[-10:].mean()
    np.testing.assert_array_equal(client.depth(photo).depth, depth)
    assert not np.array_equal(client.depth(255 - photo).depth, depth)


def test_normals_have_length_one_and_face_the_camera(client, photo):
    normals = client.normal(photo).normals
    assert (normals.shape, normals.dtype) == ((120, 90, 3), np.float32)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=2), 1, atol=1e-4)
    assert (normals[:, :, 2] < 0).all()


@pytest.mark.parametrize("name", ["goliath", "cihp", "lip", "seg_face"])
def test_classes_are_those_of_the_set(name, photo):
    with FakeServer(classes=name) as server, SapiensClient(server.url) as client:
        result = client.seg(photo)
    assert (result.class_map.shape, result.class_map.dtype) == ((120, 90), np.uint8)
    assert result.classes == class_set(name).names
    assert len(result.classes) > result.class_map.max() > 0
    assert result.class_map[0, 0] == class_set(name).background


def test_features_are_those_of_a_released_backbone(client, photo):
    features = client.features(photo).features
    width = FAMILIES["sapiens"].sizes["0.3b"].embed_dim
    assert (features.shape, features.dtype) == ((width, 4, 4), np.float32)
    assert len(np.unique(features)) > width


@pytest.mark.parametrize("name", ["coco", "coco_wholebody", "goliath"])
def test_keypoints_lie_inside_their_boxes(name, photo):
    boxes = np.float32([[10, 20, 40, 100], [30, 5, 80, 110], [-20, -20, 50, 60]])
    with FakeServer(keypoints=name) as server, SapiensClient(server.url) as client:
        result = client.pose(photo, boxes)
    assert result.keypoint_set == keypoint_set(name)
    inside = result.keypoints - boxes[:, None, :2]
    assert ((inside > 0) & (inside < (boxes[:, 2:] - boxes[:, :2])[:, None])).all()
    assert len(np.unique(result.keypoints[0], axis=0)) == len(keypoint_set(name).names)
    assert result.persons[0]["left_shoulder"].x > result.persons[0]["right_shoulder"].x
    assert ((result.scores > 0) & (result.scores <= 1)).all()


def test_more_boxes_than_the_server_takes_are_split_by_the_client(photo):
    boxes = np.tile(np.float32([1, 2, 40, 60]), (5, 1))
    with FakeServer(max_batch_size=2) as server, SapiensClient(server.url) as client:
        assert client.pose(photo, boxes).keypoints.shape == (5, 17, 2)
        asked = [request.inputs["bboxes"] for request in server.requests if request.method == INFER]
    assert asked == [(2, 4), (2, 4), (1, 4)]


@pytest.mark.parametrize("persons", [0, 1, 3])
def test_as_many_people_are_found_as_wanted(persons, photo):
    with FakeServer(persons=persons) as server, SapiensClient(server.url) as client:
        found, people = client.detect(photo), client.people(photo)
        fallback = client.people(photo, whole_image_if_nobody=True)
    assert found.bboxes.shape == (persons, 4)
    assert (np.diff(found.scores) < 0).all()
    np.testing.assert_array_equal(people.bboxes, found.bboxes)
    assert people.keypoints.shape == (persons, 17, 2)
    assert len(fallback.persons) == max(persons, 1)


def test_several_tasks_are_one_request(client, server, photo):
    analysis = client.analyze(photo, ("depth", "normal", "seg", "people"))
    np.testing.assert_array_equal(analysis.depth.depth, client.depth(photo).depth)
    assert len(analysis.people.persons) == 2
    asked = {request.model for request in server.requests if request.method == INFER}
    assert asked == {"human", "people_pose", "depth"}


METHODS = ("depth", "normal", "seg", "features", "pose", "pointmap", "matting", "albedo", "detect", "people")


@pytest.mark.parametrize("hw", [(1, 1), (1, 300), (300, 1), (700, 500)])
@pytest.mark.parametrize("method", METHODS)
def test_images_of_every_size_are_answered(method, hw, client):
    result = getattr(client, method)(np.zeros((*hw, 3), np.uint8))
    assert result.image_hw == hw
    assert all(np.isfinite(array).all() for array in result.arrays().values())


def test_models_may_be_chosen(photo):
    with FakeServer(models=("depth", "depth_2b")) as server, SapiensClient(server.url) as client:
        assert client.depth(photo, model="depth_2b").model.size == "2b"
        assert "depth_2b_raw" in server.models
        assert "human" not in server.models
        with pytest.raises(ModelNotServedError, match=r"'seg'.* not found"):
            client.seg(photo)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"keypoints": "face"}, "keypoint set must be one of .*'face'"),
        ({"classes": "face"}, "class set must be one of .*'face'"),
        ({"models": ("depths",)}, "models must be .*'depths'"),
        ({"models": ("depth_",)}, "models must be .*'depth_'"),
        ({"max_batch_size": 0}, "max_batch_size must be at least 1 .*got 0"),
        ({"persons": -1}, "persons at least 0, got 4 and -1"),
    ],
)
def test_what_no_server_can_be_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        FakeServer(**options)


def test_bad_images_and_boxes_get_the_sentences_of_the_real_server(client, photo):
    with pytest.raises(
        InvalidInputError, match=r"^image must be a JPEG, .* got 5 bytes starting with b'hello'"
    ):
        client.depth(b"hello")
    with pytest.raises(InvalidInputError, match=r"^bboxes must overlap the image of 90 x 120 pixels"):
        client.pose(photo, [[500, 500, 600, 600]])


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.QUEUE_FULL, ServerOverloadedError),
        (Fault.QUEUE_TIMEOUT, RequestTimeoutError),
        (Fault.DEAD_STUB, InferenceError),
        (Fault.INTERNAL, InferenceError),
        (Fault.UNAVAILABLE, ServerUnavailableError),
        (Fault.EXITING, ServerUnavailableError),
        (Fault.NO_VERSIONS, ModelNotServedError),
        (Fault.UNKNOWN_MODEL, ModelNotServedError),
        (Fault.RESTRICTED, SapiensError),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInputError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ServerOverloadedError),
        (grpc.StatusCode.UNKNOWN, InferenceError),
    ],
)
def test_every_fault_is_an_error_of_its_kind(fault, kind, client, server, photo):
    server.fail(fault, times=None)
    with pytest.raises(kind):
        client.depth(photo, timeout_s=2)
    server.recover()
    assert client.depth(photo).image_hw == (120, 90)


def test_failures_come_in_order_and_as_often_as_wanted(server):
    with grpc.insecure_channel(server.url) as channel:
        service = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        server.fail(grpc.StatusCode.ABORTED, "no {model} for {id}, {or} else", times=2)
        server.fail(Fault.DEAD_STUB)
        server.fail(Fault.EXITING, method="ServerReady")
        texts = [told(service, service_pb2.ModelInferRequest(model_name="seg", id="7")) for _ in range(4)]
        with pytest.raises(grpc.RpcError, match="Server exiting"):
            service.ServerReady(service_pb2.ServerReadyRequest())
    assert texts[:2] == ["no seg for 7, {or} else"] * 2
    assert texts[2] == "in ensemble 'seg', Stub process 'seg_postprocess_0_0' is not healthy."
    assert texts[3] == "in ensemble 'seg', image must be sent, got nothing; add it"


def told(service: service_pb2_grpc.GRPCInferenceServiceStub, message: service_pb2.ModelInferRequest) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        service.ModelInfer(message)
    return raised.value.details()


def test_failures_that_cannot_be_are_refused(server):
    with pytest.raises(ValueError, match="at least once, got ABORTED 0 times"):
        server.fail(grpc.StatusCode.ABORTED, times=0)
    with pytest.raises(ValueError, match=r"other than OK .*got OK 1 times"):
        server.fail(grpc.StatusCode.OK)
    with pytest.raises(ValueError, match=r"method must be one of .*ModelInfer.*'Infer'"):
        server.hang("Infer")
    with pytest.raises(ValueError, match="latency_s must be at least 0 seconds, got -1"):
        server.latency_s = -1
    with pytest.raises(ValueError, match="after_s must be at least 0 seconds, got -1"):
        server.fail(Fault.INTERNAL, after_s=-1)


def test_a_failure_may_come_late_but_not_to_callers_who_left(client, server, photo):
    client.depth(photo)
    server.fail(Fault.INTERNAL, times=2, after_s=0.3)
    with pytest.raises(InferenceError):
        client.depth(photo)
    with pytest.raises(RequestTimeoutError):
        client.depth(photo, timeout_s=0.1)
    assert eventually(lambda: server.num_cancelled == 1)


def test_a_slow_server_takes_its_time_but_not_that_of_callers_who_left(client, server, photo):
    client.depth(photo)
    server.latency_s = 0.3
    started_s = time.monotonic()
    client.depth(photo)
    assert 0.3 <= time.monotonic() - started_s < 2
    server.latency_s = 600
    with pytest.raises(RequestTimeoutError):
        client.depth(photo, timeout_s=0.2)
    assert eventually(lambda: server.num_cancelled == 1)


def test_hanging_calls_are_answered_when_they_are_released(client, server, photo):
    client.depth(photo)
    server.hang(INFER)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.depth, photo)
        assert eventually(lambda: num_inferences(server) == 2)
        assert client.ready()
        assert not waiting.done()
        server.release()
        assert waiting.result().image_hw == (120, 90)
    assert server.num_cancelled == 0


def test_a_server_that_hangs_answers_nothing_at_all(client, server, photo):
    server.hang()
    assert not client.ready(timeout_s=0.2)
    with pytest.raises(RequestTimeoutError, match=r"within 0\.2 s"):
        client.depth(photo, timeout_s=0.2)
    server.release()
    assert client.ready()


def test_callers_who_leave_free_the_threads_that_hang_for_them(server, photo):
    server.hang(INFER)
    request = service_pb2.ModelInferRequest(model_name="depth")
    with grpc.insecure_channel(server.url) as channel:
        service = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [service.ModelInfer.future(request) for _ in range(60)]
        assert eventually(lambda: len(server.requests) == 60)
        for call in calls[:30]:
            call.cancel()
        late = [service.ModelInfer.future(request, timeout=0.2) for _ in range(30)]
        assert eventually(lambda: server.num_cancelled == 60)
        assert all(call.code() is grpc.StatusCode.DEADLINE_EXCEEDED for call in late)
        assert service.ServerReady(service_pb2.ServerReadyRequest(), timeout=5).ready
        server.release()
        assert {call.code() for call in calls[30:]} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert server.num_cancelled == 60


def test_no_thread_survives_the_server(photo):
    with FakeServer() as server, SapiensClient(server.url) as client:
        client.depth(photo)
        server.hang()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fake-server")]


def test_a_draining_server_has_no_models_left_but_finishes_what_it_began(client, server, photo):
    client.depth(photo)
    server.latency_s = 0.5
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(client.depth, photo)
        assert eventually(lambda: num_inferences(server) == 2)
        server.drain()
        with pytest.raises(SapiensError, match="'depth' has no available versions"):
            client.depth(photo, timeout_s=2)
        assert not client.ready()
        assert under_way.result().image_hw == (120, 90)
    server.recover()
    assert client.ready()


def test_one_of_several_servers_that_drains_leaves_the_client_ready(server, photo):
    with FakeServer() as other, SapiensClient([server.url, other.url]) as client:
        server.drain()
        assert client.ready()
        assert client.depth(photo).image_hw == (120, 90)
        other.drain()
        assert not client.ready()
        server.recover()
        assert client.ready()


def test_a_server_that_is_cut_off_comes_back_at_the_same_address(client, server, photo):
    server.hang(INFER)
    url = server.url
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(client.depth, photo, timeout_s=2)
        assert eventually(lambda: num_inferences(server) == 1)
        server.cut()
        assert isinstance(under_way.exception(), ServerUnavailableError)
    assert not client.ready()
    server.recover()
    server.start()
    assert server.url == url
    assert eventually(client.ready)
    assert client.depth(photo).image_hw == (120, 90)


def test_a_server_that_is_stopped_finishes_what_it_began(client, server, photo):
    client.depth(photo)
    server.latency_s = 0.3
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(client.depth, photo)
        assert eventually(lambda: num_inferences(server) == 2)
        server.stop()
        assert under_way.result().image_hw == (120, 90)
    server.stop()
    assert not client.ready()


def test_two_servers_never_share_a_port(server):
    with pytest.raises(RuntimeError, match="bind"):
        FakeServer(port=int(server.url.rpartition(":")[2]))


def test_requests_are_recorded(server):
    request = service_pb2.ModelInferRequest(model_name="depth", id="7")
    request.inputs.add(name="image", datatype="UINT8", shape=[3])
    request.outputs.add(name="depth")
    request.raw_input_contents.append(b"abc")
    with grpc.insecure_channel(server.url) as channel:
        service = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        service.ServerLive(service_pb2.ServerLiveRequest())
        with pytest.raises(grpc.RpcError):
            service.ModelInfer(request, timeout=20, metadata=[("x-who", "me")])
    live, seen = server.requests
    assert (live.method, live.model, live.time_left_s) == ("ServerLive", "", None)
    assert (seen.method, seen.model, seen.request_id, seen.inputs) == (INFER, "depth", "7", {"image": (3,)})
    assert (seen.outputs, seen.metadata["x-who"]) == (("depth",), "me")
    assert seen.time_left_s == pytest.approx(20, abs=1)


def test_a_token_may_be_required(server):
    server.require("Bearer secret")
    message = service_pb2.ModelMetadataRequest(name="depth")
    with grpc.insecure_channel(server.url) as channel:
        service = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for value in ("Bearer guess", "secret"):
            with pytest.raises(
                grpc.RpcError, match="restricted, expecting header 'triton-grpc-protocol-auth"
            ):
                service.ModelMetadata(message, metadata=[("triton-grpc-protocol-authorization", value)])
        header = ("triton-grpc-protocol-authorization", "Bearer secret")
        assert service.ModelMetadata(message, metadata=[header]).name == "depth"
        assert service.ServerReady(service_pb2.ServerReadyRequest()).ready


def test_steps_are_listed_but_do_not_answer(server):
    request = service_pb2.ModelInferRequest(model_name="dense_preprocess", raw_input_contents=[b"abc"])
    request.inputs.add(name="image", datatype="UINT8", shape=[3])
    with grpc.insecure_channel(server.url) as channel:
        service = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="got 'dense_preprocess'; ask the ensemble"):
            service.ModelInfer(request)


def test_a_certificate_makes_it_speak_tls(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    options = ["-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *options, *names, *files], check=True, capture_output=True)
    pair = (key.read_bytes(), certificate.read_bytes())
    trust = grpc.ssl_channel_credentials(certificate.read_bytes())
    with FakeServer(credentials=grpc.ssl_server_credentials([pair])) as server:
        with grpc.secure_channel(server.url, trust) as channel:
            service = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert service.ServerReady(service_pb2.ServerReadyRequest()).ready
        with SapiensClient(server.url) as client:
            assert not client.ready(timeout_s=2)


def test_it_loads_neither_torch_nor_the_server():
    foreign = {"torch", "pytriton", "sapiens_export", "sapiens_server"}
    program = f"import sys, sapiens_client.testing; print(*{foreign} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_the_examples_of_the_documentation_run():
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    for example in examples:
        exec(compile(example, "docs/testing.md", "exec"), {})
    assert len(examples) == 2


def test_the_documentation_names_every_fault():
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    assert [fault.name for fault in Fault if f"`{fault.name}`" not in text] == []
