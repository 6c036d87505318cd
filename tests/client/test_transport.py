from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from bad_peers import service
from tritonclient.grpc import service_pb2

from sapiens_client import (
    InferenceError,
    InvalidInputError,
    ModelNotServedError,
    RequestTimeoutError,
    ServerUnavailableError,
)
from sapiens_client.connection.options import ClientOptions
from sapiens_client.connection.settings import checked_settings
from sapiens_client.deadline import Deadline
from sapiens_client.servers.session import Session
from sapiens_client.steps import Flow, Work
from sapiens_client.tasks.images import encoded_image
from sapiens_client.wire.served_model import ServedModel
from sapiens_client.wire.threads import Transport


class JustLate(Future):
    """Is done in the moment in which nobody waits for it any more."""

    def result(self, timeout: float | None = None) -> object:
        if self.done():
            return super().result()
        self.set_result("late")
        raise TimeoutError


class Asker:
    """Asks what the client's methods do not."""

    def __init__(self, url: str) -> None:
        settings = checked_settings(url, False, None, None, ClientOptions())
        self.session, self.transport = Session(settings), Transport(settings)

    def served_model(self, model: str, timeout_s: float = 20) -> ServedModel:
        return self.transport.run(self.session.served_model(model, Deadline.after(timeout_s)))

    def infer(self, model: str, inputs: dict[str, np.ndarray], timeout_s: float = 20) -> np.ndarray:
        deadline = Deadline.after(timeout_s)
        reply = self.transport.run(self.session.infer(model, inputs, ["depth"], deadline))
        return reply.arrays["depth"]

    def is_ready(self) -> bool:
        return self.transport.run(self.session.is_ready(Deadline.after(20)))


@pytest.fixture
def transport(url) -> Iterator[Asker]:
    asker = Asker(url)
    yield asker
    asker.transport.close()


def work(function: Callable[[], object]) -> Flow[object]:
    return (yield Work(function, Deadline.after(20), "the image"))


def test_what_is_done_as_its_time_ends_is_late(transport, monkeypatch):
    monkeypatch.setattr("sapiens_client.wire.threads.in_background", lambda _: JustLate())
    with pytest.raises(RequestTimeoutError, match=r"^the image must be there within 20 s"):
        transport.transport.run(work(object))


def test_a_functions_own_timeout_stays_what_it_is(transport):
    def fail() -> None:
        raise TimeoutError("of a disk")

    with pytest.raises(TimeoutError, match="of a disk"):
        transport.transport.run(work(fail))


def infer(asker: Asker, model: str, image: np.ndarray) -> np.ndarray:
    return asker.infer(model, {"image": encoded_image(image)})


def test_a_model_that_is_not_served_is_named(transport, photo):
    with pytest.raises(ModelNotServedError, match=r"'pose'.* not found.*sapiens export"):
        infer(transport, "pose", photo)
    with pytest.raises(ModelNotServedError, match=r"'pose'.* not found.*sapiens export"):
        transport.served_model("pose")


def test_a_model_that_was_not_exported_says_what_to_do(transport):
    crowded = transport.served_model("crowded")
    with pytest.raises(ModelNotServedError, match=r"'crowded'.*parameters.*sapiens export"):
        _ = crowded.info
    with pytest.raises(ModelNotServedError, match=r"'crowded'.*settings of a step.*sapiens export"):
        _ = crowded.settings


def test_a_models_config_tells_origin_and_shapes(transport):
    people = transport.served_model("people_pose")
    assert (people.info.labels, people.info.untrained) == ("coco", True)
    assert people.output_dims["keypoints"] == (-1, 17, 2)


def test_wrong_inputs_are_the_callers_fault(transport):
    with pytest.raises(InvalidInputError, match=r"^expected 1 inputs but got 0"):
        transport.infer("depth", {})


def test_an_answer_without_the_output_is_an_error(transport, unanswered_image):
    with pytest.raises(InferenceError, match=r"depth") as caught:
        infer(transport, "stand_in", unanswered_image)
    assert caught.value.request_id


def config_reply(**parameters: str) -> bytes:
    reply = service_pb2.ModelConfigResponse()
    for name, text in parameters.items():
        reply.config.parameters[name].string_value = text
    return reply.SerializeToString()


def output(datatype: str, shape: list[int], content: bytes) -> bytes:
    reply = service_pb2.ModelInferResponse(raw_output_contents=[content])
    reply.outputs.add(name="depth", datatype=datatype, shape=shape)
    return reply.SerializeToString()


@pytest.mark.parametrize(
    "reply",
    [
        b"\x80",
        b"\x07",
        b"\x2a\x05ab",
        b"\x2a\x02\xff\xff",
        output("FP32", [2, 2], bytes(16))[:-3],
        output("FP32", [2, 3], bytes(16)),
        output("FP99", [1], bytes(8)),
        output("BYTES", [1], bytes(8)),
    ],
    ids=["half a number", "wire type", "half a field", "field", "half a tensor", "shape", "dtype", "strings"],
)
def test_a_reply_that_cannot_be_read_is_an_error_of_the_tree(reply, photo):
    with service(ModelInfer=lambda _: reply) as url:
        asker = Asker(url)
        with pytest.raises(InferenceError, match=f"^{url} .*'depth', got {len(reply)} bytes") as caught:
            infer(asker, "depth", photo)
        assert (caught.value.url, caught.value.attempts, len(caught.value.request_id)) == (url, 1, 8)
        asker.transport.close()


def test_a_proxy_is_not_asked(url, dead_url):
    program = "import sys, sapiens_client; print(sapiens_client.SapiensClient(sys.argv[1]).ready())"
    environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    done = subprocess.run(
        [sys.executable, "-c", program, url],
        env={**environment, "http_proxy": f"http://{dead_url}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"


def test_nobody_waits_for_what_another_thread_asked():
    def answer(_: bytes) -> bytes:
        time.sleep(1)
        return config_reply()

    with service(ModelConfig=answer) as url, ThreadPoolExecutor(1) as threads:
        asker = Asker(url)
        patient = threads.submit(asker.served_model, "depth")
        time.sleep(0.2)
        started_s = time.monotonic()
        with pytest.raises(RequestTimeoutError, match=r"within 0\.3 s"):
            asker.served_model("depth", timeout_s=0.3)
        assert time.monotonic() - started_s < 0.6
        assert asker.served_model("depth") is patient.result()
        asker.transport.close()


def test_models_of_a_server_that_went_away_are_asked_for_again():
    with service(ModelConfig=lambda _: config_reply(size="0.3b")) as url:
        asker = Asker(url)
        assert asker.served_model("depth").parameters == {"size": "0.3b"}
    with pytest.raises(ServerUnavailableError):
        asker.infer("depth", {}, timeout_s=1)
    with service(int(url.rpartition(":")[2]), ModelConfig=lambda _: config_reply(size="2b")):
        assert asker.served_model("depth").parameters == {"size": "2b"}
    assert not asker.is_ready()
    with pytest.raises(ServerUnavailableError):
        asker.served_model("depth", timeout_s=1)
    asker.transport.close()
