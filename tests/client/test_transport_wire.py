from __future__ import annotations

import numpy as np
import pytest
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse
from wire import CountingProxy

from sapiens_client import ClientOptions, SapiensClient
from sapiens_client.wire.messages import decoded_reply, encoded_request


def reply(arrays: dict[str, np.ndarray], datatype: str = "FP32") -> ModelInferResponse:
    message = ModelInferResponse(model_name="depth", model_version="1", id="7")
    message.parameters["sequence_id"].int64_param = 0
    for name, array in arrays.items():
        message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        message.raw_output_contents.append(array.tobytes())
    return message


@pytest.mark.parametrize("num_bytes", [0, 1, 127, 128, 300, 16384, 3_000_000])
def test_a_request_is_the_message_that_the_generated_classes_write(num_bytes):
    image, boxes = np.arange(num_bytes, dtype=np.uint8), np.float32([[1, 2, 3, 4]])
    request = ModelInferRequest.FromString(
        encoded_request("depth", {"image": image, "bboxes": boxes}, ["depth"])
    )
    assert [(each.name, each.datatype, list(each.shape)) for each in request.inputs] == [
        ("image", "UINT8", [num_bytes]),
        ("bboxes", "FP32", [1, 4]),
    ]
    assert list(request.raw_input_contents) == [image.tobytes(), boxes.tobytes()]
    assert (request.model_name, [each.name for each in request.outputs]) == ("depth", ["depth"])


def test_a_request_tells_its_id_and_how_long_its_answer_is_of_use():
    request = ModelInferRequest.FromString(encoded_request("m", {}, [], request_id="7", timeout_s=1.5))
    assert (request.id, request.parameters["timeout"].int64_param) == ("7", 1_500_000)
    assert not ModelInferRequest.FromString(encoded_request("m", {}, [])).parameters


def test_an_array_with_gaps_is_sent_in_order():
    array = np.arange(12, dtype=np.int32).reshape(3, 4)[:, ::2]
    request = ModelInferRequest.FromString(encoded_request("m", {"x": array}, []))
    assert list(request.raw_input_contents) == [array.tobytes()]


def test_a_reply_becomes_named_arrays():
    rng = np.random.default_rng(0)
    sent = {name: rng.random(shape, np.float32) for name, shape in [("a", (3, 50)), ("b", (2, 0)), ("c", ())]}
    received = decoded_reply(reply(sent).SerializeToString())
    assert received.keys() == sent.keys()
    for name, array in sent.items():
        np.testing.assert_array_equal(received[name], array, strict=True)


def test_arrays_of_a_reply_are_read_only_views():
    received = decoded_reply(reply({"a": np.ones(3, np.float32)}).SerializeToString())
    with pytest.raises(ValueError, match="read-only"):
        received["a"] += 1


@pytest.mark.parametrize(
    "unknown",
    [b"\x98\x06\x96\x01", b"\x99\x06" + bytes(8), b"\x9a\x06\x03abc", b"\x9d\x06" + bytes(4)],
    ids=["varint", "8 bytes", "string", "4 bytes"],
)
def test_fields_of_newer_servers_are_skipped(unknown):
    encoded = unknown + reply({"a": np.ones(3, np.float32)}).SerializeToString() + unknown
    np.testing.assert_array_equal(decoded_reply(encoded)["a"], [1, 1, 1])


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_requests_are_smaller_on_the_wire_alone(compression, url):
    image = np.zeros((300, 300, 3), np.uint8)
    depths, sent = [], []
    for choice in ("none", compression):
        with (
            CountingProxy(url) as proxy,
            SapiensClient(proxy.url, options=ClientOptions(compression=choice)) as client,
        ):
            depths.append(client.depth(image))
            sent.append(proxy.num_sent)
    np.testing.assert_array_equal(*(each.depth for each in depths))
    assert depths[0].timing.request_bytes == pytest.approx(depths[1].timing.request_bytes, abs=16)
    assert sent[1] < sent[0] / 10
