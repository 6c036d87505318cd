from __future__ import annotations

import http.server
import io
import multiprocessing
import pickle
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from sapiens_client import (
    AsyncSapiensClient,
    ClientClosedError,
    ClientOptions,
    InferenceError,
    InvalidInputError,
    RequestTimeoutError,
    SapiensClient,
    ServerUnavailableError,
)
from sapiens_client.connection.address import checked_targets


def expected_depth(image: np.ndarray) -> np.ndarray:
    """What the stand-in model computes."""
    return image.astype(np.float32) @ np.array([4, 2, 1], np.float32)


@pytest.fixture
def http_url() -> Iterator[str]:
    """The address of a server that speaks HTTP only."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_path_bytes_pil_image_and_array_give_the_same_depth(client, photo, encode, tmp_path):
    encoded = encode(photo)
    path = tmp_path / "photo.png"
    path.write_bytes(encoded)
    for image in (path, str(path), encoded, Image.open(io.BytesIO(encoded)), photo):
        np.testing.assert_array_equal(client.depth(image).depth, expected_depth(photo))


def asked_elsewhere(client: SapiensClient, image: np.ndarray) -> np.ndarray:
    with client:
        return client.depth(image).depth


def test_a_client_may_be_sent_to_another_process(client, photo):
    client.depth(photo)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as workers:
        depth = workers.submit(asked_elsewhere, client, photo).result()
    np.testing.assert_array_equal(depth, client.depth(photo).depth)


@pytest.mark.parametrize("kind", [SapiensClient, AsyncSapiensClient])
def test_a_pickled_client_keeps_what_it_was_made_with(kind, monkeypatch):
    monkeypatch.setenv("SAPIENS_URL", "localhost:1")
    options = ClientOptions(shared_memory=False)
    client = kind(timeout_s=7, token="s3cret", headers={"x-key": "value"}, options=options)
    pickled = pickle.dumps(client)
    monkeypatch.setenv("SAPIENS_URL", "localhost:2")
    copied = pickle.loads(pickled)
    assert isinstance(copied, kind)
    assert pickle.dumps(copied) == pickled
    assert b"localhost:1" in pickled


def test_the_result_tells_model_size_and_timing(client, photo, encode):
    encoded = encode(photo)
    result = client.depth(encoded)
    assert (result.image_hw, result.depth.dtype) == ((120, 90), np.float32)
    assert (result.model.licence, result.model.untrained) == ("CC-BY-NC-4.0", True)
    assert result.timing.request_bytes > len(encoded)
    assert result.timing.response_bytes > result.depth.nbytes
    assert (
        0
        < result.timing.request_s
        < result.timing.request_s + result.timing.prepare_s
        <= result.timing.total_s
    )


def test_the_models_origin_is_asked_for_once(client, photo):
    assert client.depth(photo).model is client.depth(photo).model


def test_depth_is_read_only(client, photo):
    with pytest.raises(ValueError, match="read-only"):
        client.depth(photo).depth[0, 0] = 1


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (b"just some words", r"^image must be a JPEG, .* got 15 bytes .*b'just some wo'"),
        (b"\xff\xd8\xff\xe0" + bytes(40), r"^image "),
    ],
)
def test_the_servers_reason_to_refuse_an_image_arrives_as_it_is(client, photo, image, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        client.depth(image)
    assert client.depth(photo).image_hw == (120, 90)


def test_a_failure_of_the_server_is_one_line_that_names_it(client, failing_image, url):
    with pytest.raises(
        InferenceError, match=f"^{url} .*'depth', got INTERNAL: RuntimeError: the network fell over;"
    ):
        client.depth(failing_image)


def test_a_deadline_is_kept_and_named(client, slow_image):
    started_s = time.monotonic()
    with pytest.raises(RequestTimeoutError, match=r"within 0\.3 s"):
        client.depth(slow_image, timeout_s=0.3)
    assert time.monotonic() - started_s < 1.4


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), 1e12, 10**400, "5", [5], 5j])
def test_a_timeout_must_be_a_positive_number_of_seconds(client, photo, timeout_s):
    with pytest.raises(InvalidInputError, match=f"timeout_s .* got {re.escape(repr(timeout_s))}"):
        client.depth(photo, timeout_s=timeout_s)
    with pytest.raises(InvalidInputError, match=f"timeout_s .* got {re.escape(repr(timeout_s))}"):
        SapiensClient(timeout_s=timeout_s)


@pytest.mark.parametrize(
    "wrong_url",
    [
        *("", " ", "localhost", "localhost:", ":8001", "localhost:0", "127.0.0.1:99999", "localhost:http"),
        *("http://localhost:8001", "https://localhost", "grpc://localhost:8001", "HTTP://x:1", "x:1/v2"),
        *("localhost:8001\n", " localhost:8001", "local host:8001", "dns:///x:1\n", "::1:8001", "dns:"),
        *("dns:///localhost", "dns:///localhost:0", 8001, b"localhost:8001", ()),
    ],
)
def test_a_url_that_is_no_address_is_refused(wrong_url):
    with pytest.raises(InvalidInputError, match=f"host:port .*got {re.escape(repr(wrong_url))};"):
        SapiensClient(wrong_url)


@pytest.mark.parametrize(
    "right_url",
    [
        *("localhost:1", "gpu-1.local:65535", "triton_server:8001", "[::1]:8001", "[fe80::1%eth0]:8001"),
        *("dns:///gpu-1:8001", "ipv4:10.0.0.1:8001,10.0.0.2:8001", "unix:///run/triton.sock"),
    ],
)
def test_a_url_is_host_and_port_or_a_target_of_grpc(right_url):
    assert [target.url for target in checked_targets(right_url)] == [right_url]


@pytest.mark.parametrize("several", ["a:1,b:2", "a:1, b:2 ", ["a:1", "b:2"], ("a:1", "b:2", "a:1")])
def test_several_servers_are_a_sequence_or_have_commas_between_them(several):
    assert [target.url for target in checked_targets(several)] == ["a:1", "b:2"]


@pytest.mark.parametrize(
    "wrong", ["a:1,", "a:1,,b:2", "a:1,http://b:2", ["a:1", ""], ["a:1", 8001], ["a:1,b:2"]]
)
def test_one_wrong_address_among_several_is_refused(wrong):
    with pytest.raises(InvalidInputError, match="url must be host:port"):
        SapiensClient(wrong)


def test_without_a_server_calls_fail_soon(dead_url, photo):
    with SapiensClient(dead_url, timeout_s=3600) as client:
        assert not client.ready()
        with pytest.raises(
            ServerUnavailableError, match=f"answer at {dead_url}.*Connection refused.*sapiens serve"
        ):
            client.depth(photo)


def test_a_port_that_speaks_http_is_no_server(http_url, photo):
    with SapiensClient(http_url) as client:
        assert not client.ready()
        with pytest.raises(ServerUnavailableError, match=f"{http_url}.*HTTP/2.*gRPC port"):
            client.depth(photo)


def test_a_port_that_never_answers_costs_no_more_than_the_deadline(photo):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = SapiensClient(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)
        assert not client.ready(timeout_s=0.3)
        with pytest.raises(RequestTimeoutError, match=r"within 0\.3 s"):
            client.depth(photo)
        client.close()


def test_the_address_comes_from_the_environment(monkeypatch, url, dead_url):
    monkeypatch.setenv("SAPIENS_URL", url)
    with SapiensClient() as client:
        assert client.ready()
    with SapiensClient(dead_url) as client:
        assert not client.ready()


def test_eight_threads_share_a_client_and_one_bad_image_harms_nobody(client):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (50 + i, 300, 3), dtype=np.uint8) for i in range(32)]
    with ThreadPoolExecutor(8) as threads:
        good = [threads.submit(client.depth, image) for image in images[:16]]
        bad = threads.submit(client.depth, b"no image")
        good += [threads.submit(client.depth, image) for image in images[16:]]
    for image, answer in zip(images, good, strict=True):
        np.testing.assert_array_equal(answer.result().depth, expected_depth(image))
    assert isinstance(bad.exception(), InvalidInputError)


def test_a_closed_client_says_so_and_leaves_others_alone(url, client, photo):
    closed = SapiensClient(url)
    closed.depth(photo)
    closed.close()
    closed.close()
    with pytest.raises(ClientClosedError, match="use a new one"):
        closed.depth(photo)
    with pytest.raises(ClientClosedError, match="use a new one"):
        closed.ready()
    assert client.depth(photo).image_hw == (120, 90)


def test_closing_ends_calls_under_way(url, slow_image):
    client = SapiensClient(url)
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(client.depth, slow_image)
        time.sleep(0.5)
        client.close()
        assert isinstance(under_way.exception(), ClientClosedError)
