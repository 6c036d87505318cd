from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from sapiens_client import (
    InferenceError,
    InvalidInputError,
    ModelNotServedError,
    RequestTimeoutError,
    ServerOverloadedError,
    ServerUnavailableError,
)
from sapiens_client.deadline import Deadline
from sapiens_client.images import encoded_image
from sapiens_client.session import Session
from sapiens_client.transport import Transport


@pytest.fixture
def transport(url) -> Iterator[Transport]:
    transport = Transport(url)
    yield transport
    transport.close()


def infer(transport: Transport, model: str, image: np.ndarray) -> np.ndarray:
    inputs = {"image": np.frombuffer(encoded_image(image), np.uint8)}
    return transport.infer(model, inputs, ["depth"], Deadline.after(20)).arrays["depth"]


def test_a_model_that_is_not_served_is_named(transport, photo):
    with pytest.raises(ModelNotServedError, match=r"'pose'.* not found.*sapiens export"):
        infer(transport, "pose", photo)
    with pytest.raises(ModelNotServedError, match=r"'pose'.* not found.*sapiens export"):
        transport.served_model("pose", Deadline.after(20))


def test_a_model_that_was_not_exported_says_what_to_do(transport):
    crowded = transport.served_model("crowded", Deadline.after(20))
    with pytest.raises(ModelNotServedError, match=r"'crowded'.*parameters.*sapiens export"):
        _ = crowded.info
    with pytest.raises(ModelNotServedError, match=r"'crowded'.*'max_batch_size'.*got ''.*sapiens export"):
        crowded.number("max_batch_size")


def test_a_models_config_tells_origin_and_shapes(transport):
    people = transport.served_model("people_pose", Deadline.after(20))
    assert (people.info.labels, people.info.untrained) == ("coco", True)
    assert people.output_dims["keypoints"] == (-1, 17, 2)


def test_wrong_inputs_are_the_callers_fault(transport):
    with pytest.raises(InvalidInputError, match=r"^expected 1 inputs but got 0"):
        transport.infer("depth", {}, ["depth"], Deadline.after(20))


def test_an_answer_without_the_output_is_an_error(transport, unanswered_image):
    with pytest.raises(InferenceError, match=r"depth"):
        infer(transport, "stand_in", unanswered_image)


def test_full_and_slow_queues_are_told_apart_from_a_missing_server(transport, slow_image):
    with ThreadPoolExecutor(3) as threads:
        working = threads.submit(infer, transport, "crowded", slow_image)
        time.sleep(0.4)
        waiting = threads.submit(infer, transport, "crowded", slow_image)
        time.sleep(0.4)
        refused = threads.submit(infer, transport, "crowded", slow_image)
    assert working.result().shape == (1, 2)
    assert isinstance(waiting.exception(), RequestTimeoutError)
    assert isinstance(refused.exception(), ServerOverloadedError)


@contextmanager
def service(port: int = 0, **methods: Callable[[bytes], bytes]) -> Iterator[str]:
    """The address of a gRPC server that has these methods of Triton's service."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(lambda request, _, answer=answer: answer(request))
        for name, answer in methods.items()
    }
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)]
    )
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


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
        transport = Transport(url)
        with pytest.raises(InferenceError, match=f"^{url} .*'depth', got {len(reply)} bytes"):
            infer(transport, "depth", photo)
        transport.close()


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
        session = Session(url)
        patient = threads.submit(session.served_model, "depth", Deadline.after(20))
        time.sleep(0.2)
        started_s = time.monotonic()
        with pytest.raises(RequestTimeoutError, match=r"within 0\.3 s"):
            session.served_model("depth", Deadline.after(0.3))
        assert time.monotonic() - started_s < 0.6
        assert session.served_model("depth", Deadline.after(20)) is patient.result()
        session.close()


def test_models_of_a_server_that_went_away_are_asked_for_again():
    with service(ModelConfig=lambda _: config_reply(size="0.3b")) as url:
        session = Session(url)
        assert session.served_model("depth", Deadline.after(20)).parameters == {"size": "0.3b"}
    with pytest.raises(ServerUnavailableError):
        session.infer("depth", {}, ["depth"], Deadline.after(20))
    with service(int(url.rpartition(":")[2]), ModelConfig=lambda _: config_reply(size="2b")):
        time.sleep(0.3)  # until gRPC connects again
        assert session.served_model("depth", Deadline.after(20)).parameters == {"size": "2b"}
    assert not session.is_ready(Deadline.after(20))
    with pytest.raises(ServerUnavailableError):
        session.served_model("depth", Deadline.after(20))
    session.close()
