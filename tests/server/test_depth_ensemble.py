"""The served ensemble on a real tritonserver, through the SDK and through plain tritonclient."""

import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as triton
from tiff_files import RGB, UNDEFINED, tiff
from tritonclient.utils import InferenceServerException

from sapiens_client import (
    ClientOptions,
    InvalidInputError,
    RequestTimeoutError,
    SapiensClient,
    ServerUnavailableError,
)
from sapiens_core.contract.limits import LIMITS
from sapiens_server import serve

ODD_IMAGES = [
    "1x1",
    "3x2000",
    "4000x3",
    "portrait",
    "exif-rotated",
    "grey",
    "rgba",
    "16-bit",
    "cmyk",
    "4k",
]


@pytest.fixture(scope="module")
def client(depth_server):
    options = ClientOptions(output="image")  # the ensemble itself, also of large images
    with SapiensClient(depth_server.grpc_url, options=options) as client:
        yield client


def png_bomb(width, height):
    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


SLOW_CONFIG = """
name: "slow"
backend: "python"
input [ { name: "x" data_type: TYPE_UINT8 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_UINT8 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
SLOW_MODEL = """
import time

class TritonPythonModel:
    def initialize(self, args):
        time.sleep(3)

    def execute(self, requests):
        return []
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def raw_request(url, model, image, *outputs):
    tensor = triton.InferInput("image", list(image.shape), "UINT8")
    tensor.set_data_from_numpy(image)
    wanted = [triton.InferRequestedOutput(name) for name in outputs] or None
    return triton.InferenceServerClient(url).infer(model, [tensor], outputs=wanted)


@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_served_depth_equals_the_in_process_pipeline(kind, client, odd_images, in_process_depth):
    result = client.depth(odd_images[kind])
    expected = in_process_depth(odd_images[kind])
    assert result.image_hw == expected.shape
    np.testing.assert_allclose(result.depth, expected, rtol=0, atol=1e-5)


def test_served_depth_equals_the_reference(client, golden, encode):
    vectors = golden("net_depth")
    result = client.depth(np.ascontiguousarray(vectors["e2e_image_bgr"][:, :, ::-1]))
    np.testing.assert_allclose(result.depth, vectors["full_pred"][0], rtol=0, atol=1e-4)


def test_the_raw_ensemble_returns_the_engines_own_output(depth_server, odd_images, golden):
    image = np.frombuffer(odd_images["portrait"], np.uint8)
    reply = raw_request(depth_server.grpc_url, "depth_raw", image, "depth_map", "image_hw")
    assert reply.as_numpy("depth_map").shape == (1, 1, 64, 48)
    assert reply.as_numpy("image_hw").tolist() == [640, 360]


def test_nobody_computes_for_a_caller_who_has_gone(depth_server, odd_images):
    image = np.frombuffer(odd_images["grey"], np.uint8)
    tensor = triton.InferInput("image", [image.size], "UINT8").set_data_from_numpy(image)
    with triton.InferenceServerClient(depth_server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="Request timeout expired"):
            client.infer("depth", [tensor], timeout=1)  # microsecond, which has passed in the first queue
        assert client.infer("depth", [tensor], timeout=60_000_000).as_numpy("depth").shape == (77, 55)


@pytest.mark.parametrize("outputs", [(), ("depth",), ("depth", "image_hw"), ("image_hw", "depth")])
def test_the_ensemble_returns_the_outputs_asked_for(outputs, depth_server, odd_images):
    image = np.frombuffer(odd_images["grey"], np.uint8)
    reply = raw_request(depth_server.grpc_url, "depth", image, *outputs)
    for name in outputs or ("depth", "image_hw"):
        assert reply.as_numpy(name) is not None


def test_the_result_tells_where_the_network_comes_from(client, odd_images):
    model = client.depth(odd_images["1x1"]).model
    assert (model.licence, model.untrained, model.checkpoint_sha256) == ("unknown", False, "ab" * 32)


BAD_FILES = {
    "text": (b"hello, I am no image", "hello"),
    "truncated jpeg": ("portrait", "truncated or damaged"),
    "bomb": (png_bomb(30_000, 30_000), f"at most {LIMITS.max_image_pixels} pixels"),
    "long": (png_bomb(40_000, 1), "sides of at most"),
    # A status of more than 8 KB the client would not even take.
    "long words": (
        tiff(np.zeros((4, 5, 3), np.uint8), RGB, {259: (UNDEFINED, bytes(9000))}),
        "^TIFF must have a common compression, got b'.{900,960}$",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_gets_a_sentence_and_the_next_good_one_its_depth(kind, client, odd_images):
    data, message = BAD_FILES[kind]
    if isinstance(data, str):
        data = odd_images[data][:-2000]
    with pytest.raises(InvalidInputError, match=message):
        client.depth(data)
    assert client.depth(odd_images["grey"]).image_hw == (77, 55)


def test_empty_bytes_are_refused_by_the_server_too(depth_server):
    with pytest.raises(triton.InferenceServerException, match="image is empty") as caught:
        raw_request(depth_server.grpc_url, "depth", np.zeros(0, np.uint8))
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.uint8), np.zeros((2, 2), np.uint8)], ids=["rank 3", "rank 2"]
)
def test_a_tensor_of_another_rank_is_refused(image, depth_server):
    with pytest.raises(triton.InferenceServerException, match=r"'image'.*\[-1\]") as caught:
        raw_request(depth_server.grpc_url, "depth", image)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_one_bad_caller_among_eight_harms_nobody(client, odd_images, in_process_depth):
    images = [odd_images["portrait"]] * 7 + [b"not an image"]
    barrier = threading.Barrier(8)

    def ask(image):
        barrier.wait()
        try:
            return client.depth(image).depth
        except InvalidInputError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, images))
    expected = in_process_depth(odd_images["portrait"])
    for answer in answers[:7]:
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)
    assert isinstance(answers[7], InvalidInputError)


def test_a_deadline_that_passes_is_told_and_the_server_goes_on(client, odd_images):
    with pytest.raises(RequestTimeoutError, match=r"within 0.002 s"):
        client.depth(odd_images["4k"], timeout_s=0.002)
    assert client.depth(odd_images["grey"]).image_hw == (77, 55)


def test_a_server_that_still_loads_is_unavailable(depth_repository, tmp_path, odd_images):
    slow = tmp_path / "models"
    slow.mkdir()
    for model in depth_repository.iterdir():
        (slow / model.name).symlink_to(model)
    loader = slow / "slow" / "1"
    loader.mkdir(parents=True)
    (slow / "slow" / "config.pbtxt").write_text(SLOW_CONFIG)
    (loader / "model.py").write_text(SLOW_MODEL)
    with ThreadPoolExecutor(1) as pool:
        port = free_port()
        starting = pool.submit(lambda: serve(slow, grpc_port=port))
        with SapiensClient(f"127.0.0.1:{port}") as client:
            assert not client.ready()
            with pytest.raises(ServerUnavailableError, match=f"127.0.0.1:{port}.*sapiens serve"):
                client.depth(odd_images["grey"])
            with starting.result() as server:
                assert "slow" in server.models
                wait_until(client.ready)
                assert client.depth(odd_images["grey"]).image_hw == (77, 55)
