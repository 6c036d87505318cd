"""The fake server of `sapiens_client.testing` and a real one are asked the same, and must say the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from real_servers import running
from tritonclient.grpc import service_pb2 as pb

from sapiens_client.testing import FakeServer, Fault
from sapiens_client.testing.faults import filled
from sapiens_client.wire.messages import encoded_request
from sapiens_core.contract.tensors import BBOXES
from sapiens_core.recipes.combined import HUMAN, PEOPLE_POSE
from sapiens_core.recipes.detectors import DETECT
from sapiens_core.recipes.sapiens1 import SAPIENS
from sapiens_server.launch import launch

SPECS = {**SAPIENS.recipes, DETECT.task: DETECT}  # of the real server that most tests share
RAW = [spec.raw_name for spec in SPECS.values() if spec.raw_outputs]
MODELS = [*SPECS, *RAW, HUMAN, PEOPLE_POSE.name]
SIDES = ("real", "fake")


class Asker:
    """Asks one server and keeps what it says, be it a reply or an error."""

    def __init__(self, url: str) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(url, options=options)

    def __call__(self, method: str, message: Any, timeout_s: float = 20) -> Any:
        call = self.channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=getattr(pb, f"{method}Response").FromString,
        )
        try:
            return call(message, timeout=timeout_s)
        except grpc.RpcError as error:
            return error.code(), error.details()

    def about(self, model: str, method: str = "ModelConfig", version: str = "") -> Any:
        return self(method, getattr(pb, f"{method}Request")(name=model, version=version))

    def infer(self, model: str, outputs: tuple[str, ...] = (), **inputs: Any) -> Any:
        return self("ModelInfer", request(model, outputs, **inputs))


def request(model: str, outputs: tuple[str, ...] = (), **inputs: Any) -> Any:
    return pb.ModelInferRequest.FromString(encoded_request(model, inputs, outputs))


@pytest.fixture(scope="module")
def ask(tasks_server) -> Iterator[dict[str, Asker]]:
    with FakeServer(models=SPECS) as fake:
        askers = dict(zip(SIDES, (Asker(tasks_server.grpc_url), Asker(fake.url)), strict=True))
        yield askers
        for asker in askers.values():
            asker.channel.close()


@pytest.fixture(scope="module")
def image(photo, encode) -> np.ndarray:
    return np.frombuffer(encode(photo), np.uint8)


@pytest.fixture(scope="module")
def both(ask) -> Callable[..., tuple[Any, Any]]:
    """A function (how to ask) -> what the two servers say."""
    return lambda how: tuple(how(ask[side]) for side in SIDES)


def assert_same_error(answers: tuple[Any, Any]) -> None:
    real, fake = answers
    assert isinstance(real, tuple), f"the real server answers: {real}"
    assert fake == real


def assert_both_refuse(answers: tuple[Any, Any]) -> None:
    """Check the statuses alone: what programs never send, the fake server refuses in words of its own."""
    real, fake = answers
    assert isinstance(real, tuple), f"the real server answers: {real}"
    assert isinstance(fake, tuple), f"the fake server answers: {fake}"
    assert fake[0] == real[0]


def pattern(dims: Any) -> list[bool]:
    return [side == -1 for side in dims]


def tensors(fields: Any) -> list[tuple[Any, ...]]:
    return [
        (each.name, each.data_type, getattr(each, "optional", None), pattern(each.dims)) for each in fields
    ]


def test_the_same_models_are_there(both):
    real, fake = both(lambda ask: ask("RepositoryIndex", pb.RepositoryIndexRequest()))
    assert {(each.name, each.version, each.state) for each in fake.models} == {
        (each.name, each.version, each.state) for each in real.models
    }


def test_every_model_has_the_same_tensors(both, ask):
    for each in ask["real"]("RepositoryIndex", pb.RepositoryIndexRequest()).models:
        real, fake = both(lambda ask, name=each.name: ask.about(name).config)
        assert (tensors(fake.input), tensors(fake.output)) == (tensors(real.input), tensors(real.output))
        assert (fake.max_batch_size, fake.platform) == (real.max_batch_size, real.platform)
        assert fake.backend == ("" if real.platform else "python")


@pytest.mark.parametrize("model", [*MODELS, *(spec.preprocess.name for spec in SPECS.values())])
def test_configs_carry_the_same_facts_and_steps(model, both):
    real, fake = both(lambda ask: ask.about(model).config)
    assert fake.parameters.keys() == real.parameters.keys()
    assert fake.ensemble_scheduling == real.ensemble_scheduling


@pytest.mark.parametrize("model", MODELS)
def test_metadata_has_the_same_shape(model, both):
    real, fake = both(lambda ask: ask.about(model, "ModelMetadata"))
    for mine, theirs in zip((*fake.inputs, *fake.outputs), (*real.inputs, *real.outputs), strict=True):
        assert (mine.name, mine.datatype) == (theirs.name, theirs.datatype)
        assert pattern(mine.shape) == pattern(theirs.shape)
    assert (fake.versions, fake.platform) == (real.versions, real.platform)


def test_statistics_count_the_same_models_and_requests(both, image):
    def counts(ask: Asker) -> dict[str, list[int]]:
        models = ask("ModelStatistics", pb.ModelStatisticsRequest()).model_stats
        parts = ("success", "queue", "compute_input", "compute_infer", "compute_output")
        return {
            each.name: [getattr(each.inference_stats, part).count > 0 for part in parts] for each in models
        }

    both(lambda ask: ask.infer("depth", ("depth",), image=image))
    real, fake = both(counts)
    assert fake.keys() == real.keys()
    for model in ("depth_engine", "depth_postprocess", "dense_preprocess"):
        assert fake[model] == real[model] == [True] * 5


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady"])
def test_health_is_the_same(method, both):
    real, fake = both(lambda ask: ask(method, getattr(pb, f"{method}Request")()))
    assert fake == real


def test_people_without_an_image_are_refused_alike(both):
    real, fake = both(lambda ask: ask.infer(PEOPLE_POSE.name, whole_image_if_nobody=np.array([True])))
    assert fake == real
    assert "image must be sent" in fake[1]


@pytest.mark.parametrize("model", MODELS)
def test_replies_have_the_same_names_types_and_ranks(model, both, image):
    replies = both(lambda ask: ask.infer(model, image=image))
    real, fake = ({out.name: (out.datatype, len(out.shape)) for out in each.outputs} for each in replies)
    assert fake == real
    assert (replies[1].model_version, replies[1].id) == (replies[0].model_version, replies[0].id)


@pytest.mark.parametrize("model", ["depth", "normal", "seg", "human"])
def test_results_at_image_size_have_the_same_shape(model, both, image):
    real, fake = (
        {out.name: tuple(out.shape) for out in each.outputs}
        for each in both(lambda ask: ask.infer(model, image=image))
    )
    assert fake == real


@pytest.mark.parametrize("model", MODELS)
def test_every_choice_of_outputs_is_answered(model, both, ask, image):
    names = [output.name for output in ask["real"].about(model).config.output]
    for chosen in (some for size in (1, 2, len(names)) for some in combinations(names, size)):
        real, fake = both(lambda ask, chosen=chosen: ask.infer(model, chosen, image=image))
        assert {out.name for out in fake.outputs} == {out.name for out in real.outputs} == set(chosen)


BAD_IMAGES = {"other bytes": slice(300, 340), "nothing": slice(0), "half an image": slice(300)}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_what_is_wrong_with_images_is_said_alike(kind, model, both, image):
    assert_same_error(both(lambda ask: ask.infer(model, image=image[BAD_IMAGES[kind]])))


BAD_INPUTS = {
    "none": lambda image: {},
    "other": lambda image: {"picture": image},
    "further": lambda image: {"image": image, "foo": image[:3]},
    "rank": lambda image: {"image": image[None]},
    "dtype": lambda image: {"image": image.astype(np.float32)},
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_wrong_inputs_are_refused_by_both(kind, model, both, image):
    assert_both_refuse(both(lambda ask: ask.infer(model, **BAD_INPUTS[kind](image))))


@pytest.mark.parametrize("model", MODELS)
def test_an_unknown_output_is_refused_alike(model, both, image):
    assert_same_error(both(lambda ask: ask.infer(model, ("foo",), image=image)))


@pytest.mark.parametrize(
    "bboxes",
    [
        np.tile(np.float32([1, 2, 50, 60]), (5, 1)),
        np.zeros((0, 4), np.float32),
        np.float32([[0, 0, np.nan, 4]]),
        np.float32([[30, 0, 10, 10]]),
        np.float32([[500, 500, 600, 600]]),
    ],
    ids=["too many", "none", "nan", "x2 before x1", "outside"],
)
def test_boxes_are_refused_alike(bboxes, both, image):
    assert_same_error(both(lambda ask: ask.infer("pose", image=image, **{BBOXES.name: bboxes})))


@pytest.mark.parametrize(
    "bboxes",
    [np.zeros((1, 3), np.float32), np.zeros(4, np.float32), np.array([[1, 2, 50, 60]])],
    ids=["three numbers", "flat", "int64"],
)
def test_boxes_of_another_form_are_refused_by_both(bboxes, both, image):
    assert_both_refuse(both(lambda ask: ask.infer("pose", image=image, **{BBOXES.name: bboxes})))


def test_boxes_without_an_image_are_refused_alike(both):
    real, fake = both(lambda ask: ask.infer("pose", bboxes=np.float32([[1, 2, 50, 60]])))
    assert fake == real
    assert real[1] == "in ensemble 'pose', image must be sent, got only bboxes; add it"


@pytest.mark.parametrize("option", [np.array([True, False]), np.uint8([1]), np.array([[True]])])
def test_an_option_of_another_shape_or_type_is_refused_by_both(option, both, image):
    assert_both_refuse(both(lambda ask: ask.infer("people_pose", image=image, whole_image_if_nobody=option)))


@pytest.mark.parametrize(("model", "version"), [("nope", ""), ("nope", "3"), ("depth", "3")])
def test_models_and_versions_that_are_not_there_are_refused_by_both(model, version, both, image):
    message = request(model, image=image)
    message.model_version = version
    check = assert_both_refuse if version else assert_same_error
    check(both(lambda ask: ask("ModelInfer", message)))
    for method in ("ModelConfig", "ModelMetadata"):
        check(both(lambda ask, method=method: ask.about(model, method, version)))
    real, fake = both(lambda ask: ask.about(model, "ModelReady", version))
    assert fake == real


def cut_off(message: Any) -> None:
    message.raw_input_contents[0] = message.raw_input_contents[0][:-5]


def without_contents(message: Any) -> None:
    del message.raw_input_contents[:]


def twice(message: Any) -> None:
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(message.raw_input_contents[0])


def of_no_type(message: Any) -> None:
    message.inputs[0].datatype = "FP99"


def of_free_size(message: Any) -> None:
    message.inputs[0].shape[0] = -1


@pytest.mark.parametrize("spoil", [cut_off, without_contents, twice, of_no_type, of_free_size])
def test_broken_messages_are_refused_by_both(spoil, both, image):
    message = request("depth", image=image)
    spoil(message)
    assert_both_refuse(both(lambda ask: ask("ModelInfer", message)))


SLOW_STEP = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(1)
        tensor = pb_utils.Tensor("depth", np.zeros((1, 1), np.float32))
        return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""
TENSORS = """
input { name: "image" data_type: TYPE_UINT8 dims: -1 }
output { name: "depth" data_type: TYPE_FP32 dims: [ -1, -1 ] }
"""
STEP = """
backend: "python" instance_group { kind: KIND_CPU count: 1 }
dynamic_batching { default_queue_policy {
  max_queue_size: 1 timeout_action: REJECT default_timeout_microseconds: 100000
} }
"""
ENSEMBLE = """
platform: "ensemble" ensemble_scheduling { step {
  model_name: "depth_postprocess" model_version: -1
  input_map { key: "image" value: "image" } output_map { key: "depth" value: "depth" }
} }
"""


@pytest.fixture
def impatient(tmp_path) -> Iterator[Any]:
    """A real server whose ensemble `depth` takes a second, with room for one that waits a tenth of it."""
    for name, text in {"depth": ENSEMBLE, "depth_postprocess": STEP, "other": STEP}.items():
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.py").write_text(SLOW_STEP)
        (tmp_path / name / "config.pbtxt").write_text(f'name: "{name}" {TENSORS} {text}')
    with running(tmp_path, grpc_port=0) as server:
        yield server


def said(fault: Fault, model: str = "depth") -> tuple[grpc.StatusCode, str]:
    return fault.code, filled(fault.text, model, "")


def test_overload_is_worded_alike(impatient, image):
    ask = Asker(impatient.grpc_url)
    with ThreadPoolExecutor(3) as threads:
        calls = []
        for _ in range(3):
            calls.append(threads.submit(ask.infer, "depth", image=image))
            time.sleep(0.3)
    served, waited, refused = (call.result() for call in calls)
    assert served.outputs[0].name == "depth"
    assert waited == said(Fault.QUEUE_TIMEOUT)
    assert refused == said(Fault.QUEUE_FULL)


def stubs_of(pid: int) -> dict[str, int]:
    """Process ids of a server's Python models by the paths of their code."""
    stubs = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile
            continue
        if parent == pid and len(arguments) > 1:
            stubs[Path(arguments[1].decode()).parents[1].name] = int(folder.name)
    return stubs


def test_a_dead_process_is_worded_alike(impatient, image):
    ask = Asker(impatient.grpc_url)
    os.kill(stubs_of(impatient.pid)["depth_postprocess"], signal.SIGKILL)
    assert ask.infer("depth", image=image) == said(Fault.DEAD_STUB)
    assert ask("ServerReady", pb.ServerReadyRequest()).ready


def farewells(ask: Asker, image: np.ndarray) -> dict[str, Any]:
    """What a server that ends says about each thing."""
    about = {method: ask.about("depth", method) for method in ("ModelConfig", "ModelMetadata", "ModelReady")}
    methods = ("ServerReady", "ServerLive", "RepositoryIndex")
    health = {method: ask(method, getattr(pb, f"{method}Request")()) for method in methods}
    return about | health | {name: ask.infer(name, image=image) for name in ("depth", "nope")}


def test_a_server_that_ends_says_so_alike(impatient, image):
    ask = Asker(impatient.grpc_url)
    with ThreadPoolExecutor(1) as threads, FakeServer() as fake:
        under_way = threads.submit(ask.infer, "other", image=image)  # keeps the server for a second
        time.sleep(0.2)
        os.kill(impatient.pid, signal.SIGTERM)
        time.sleep(0.2)
        real = farewells(ask, image)
        fake.drain()
        assert farewells(Asker(fake.url), image) == real
        assert real["depth"] == said(Fault.NO_VERSIONS)
        assert under_way.result().outputs[0].name == "depth"


def test_a_wrong_token_is_refused_alike(tasks_repository, monkeypatch, image):
    token = "--grpc-restricted-protocol=inference:authorization=Bearer secret"
    monkeypatch.setattr(
        "sapiens_server.server.launch",
        lambda installation, arguments, *rest: launch(installation, [*arguments, token], *rest),
    )
    with running(tasks_repository, grpc_port=0) as server, FakeServer() as fake:
        fake.require("Bearer secret")
        real_asker, fake_asker = Asker(server.grpc_url), Asker(fake.url)
        for model in ("depth", "nope"):
            answers = [asker.infer(model, image=image) for asker in (real_asker, fake_asker)]
            assert answers == [said(Fault.RESTRICTED)] * 2
        for asker in (real_asker, fake_asker):
            assert asker.about("depth").config.name == "depth"
            assert asker("ServerReady", pb.ServerReadyRequest()).ready
