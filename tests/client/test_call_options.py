"""Options of calls, of clients that share connections, and warming up."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import Iterator

import numpy as np
import pytest

from sapiens_client import (
    AsyncSapiensClient,
    AuthenticationError,
    ClientClosedError,
    ClientOptions,
    InvalidInputError,
    RequestTimeoutError,
    SapiensClient,
)
from sapiens_client.tasks.images import encoded_image
from sapiens_client.testing import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def client(server) -> Iterator[SapiensClient]:
    with SapiensClient(server.url, headers={"x-team": "blue", "x-app": "demo"}) as client:
        yield client


def sent(server, name):
    return {request.metadata.get(name) for request in server.requests}


def test_headers_of_a_call_are_sent_along_and_win(client, server, photo):
    client.depth(photo, headers={"X-Trace": "1f", "x-team": "red"})
    assert (sent(server, "x-trace"), sent(server, "x-team"), sent(server, "x-app")) == (
        {"1f"},
        {"red"},
        {"demo"},
    )
    client.analyze(photo, ("depth", "detect"), headers={"x-trace": "2f"})
    assert {request.metadata["x-trace"] for request in server.requests[2:]} == {"2f"}
    client.depth(photo)
    assert "x-trace" not in server.requests[-1].metadata


def test_headers_of_a_call_keep_the_rules_of_clients(client, photo):
    with pytest.raises(InvalidInputError, match="names of headers"):
        client.depth(photo, headers={"a b": "c"})
    remote = SapiensClient("192.0.2.1:8001")
    with remote, pytest.raises(InvalidInputError, match="must travel encrypted"):
        remote.depth(photo, headers={"x-key": "secret"})
    with remote, pytest.raises(InvalidInputError, match="must travel encrypted"):
        remote.with_options(headers={"x-key": "secret"})
    mesh = SapiensClient("192.0.2.1:8001", options=ClientOptions(plaintext_secrets=True))
    with mesh:
        mesh.with_options(headers={"x-key": "secret"})


def test_a_refusal_tells_which_headers_were_sent(server, photo):
    server.require("secret", "x-key")
    with SapiensClient(server.url) as client:
        with pytest.raises(AuthenticationError, match="of headers the headers x-other"):
            client.depth(photo, headers={"x-other": "secret"})
        client.depth(photo, headers={"x-key": "secret"})


def test_a_client_with_options_shares_the_connection(client, server, photo):
    traced = client.with_options(headers={"x-trace": "1f"}, timeout_s=20).with_options(channel_order="bgr")
    traced.depth(photo)
    assert (sent(server, "x-trace"), sent(server, "x-team")) == ({"1f"}, {"blue"})
    assert server.requests[-1].time_left_s < 30
    client.depth(photo)
    assert "x-trace" not in server.requests[-1].metadata
    assert server.requests[-1].time_left_s > 30
    assert sum(request.method == "ModelConfig" for request in server.requests) == 1  # asked once for both
    traced.close()
    with pytest.raises(ClientClosedError):
        client.depth(photo)


def test_a_client_with_options_outlives_the_name_of_the_first(server, photo):
    client = SapiensClient(server.url).with_options(headers={"x-trace": "1f"})
    gc.collect()
    client.depth(photo)
    client.close()


def test_a_client_with_options_is_pickled_with_them(client, server, photo):
    traced = client.with_options(headers={"x-trace": "1f"}, timeout_s=20, channel_order="bgr")
    with pickle.loads(pickle.dumps(traced)) as copy:
        assert bytes(copy.depth(photo).encoded_image) == bytes(traced.depth(photo).encoded_image)
    request = server.requests[-1]
    assert (sent(server, "x-trace"), sent(server, "x-app"), request.time_left_s < 30) == (
        {"1f"},
        {"demo"},
        True,
    )


def test_options_that_there_are_not_are_refused(client, photo):
    with pytest.raises(
        TypeError, match="must be some of timeout_s, headers, channel_order, dtype, got timeot_s"
    ):
        client.depth(photo, timeot_s=3)
    with pytest.raises(TypeError, match="got model"):
        client.with_options(model="depth_2b")
    for ask in (client.depth, lambda _, **options: client.with_options(**options)):
        with pytest.raises(InvalidInputError, match=r"channel_order must be one of .* got 'rbg'"):
            ask(photo, channel_order="rbg")
    with pytest.raises(InvalidInputError, match="timeout"):
        client.with_options(timeout_s=-1)


@pytest.mark.parametrize("alpha", [False, True])
def test_arrays_may_have_opencv_s_order_of_channels(client, photo, alpha):
    rgb = np.dstack([photo, photo[:, :, 0]]) if alpha else photo
    bgr = rgb[:, :, [2, 1, 0, 3]] if alpha else rgb[:, :, ::-1]

    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return bgr

    for image in (bgr, Tensor()):
        result = client.depth(image, channel_order="bgr")
        np.testing.assert_array_equal(result.image, photo)
        np.testing.assert_array_equal(client.with_options(channel_order="bgr").depth(image).image, photo)
    assert bytes(encoded_image(photo[:, :, 0], "bgr")) == bytes(encoded_image(photo[:, :, 0]))


def test_files_are_as_they_are_whatever_the_order_of_arrays(client, encode, photo):
    content = encode(photo)
    assert bytes(client.depth(content, channel_order="bgr").encoded_image) == content


def test_warming_up_asks_every_task_once(client, server, photo):
    client.warm_up()
    inferences = [request.model for request in server.requests if request.method == "ModelInfer"]
    second_family = ["albedo", "matting", "pointmap"]
    assert sorted(inferences) == sorted(
        ["detect", "features", "human", "people_pose", "pose", *second_family]
    )
    num_configs = sum(request.method == "ModelConfig" for request in server.requests)
    client.depth(photo)
    assert sum(request.method == "ModelConfig" for request in server.requests) == num_configs


def test_warming_up_asks_for_what_is_wanted_or_served(photo):
    with FakeServer(models=["depth"]) as server, SapiensClient(server.url) as client:
        client.warm_up()
        client.warm_up("depth")
        assert {request.model for request in server.requests if request.method == "ModelInfer"} == {"depth"}
        with pytest.raises(LookupError, match="'seg'"):
            client.warm_up("depth", "seg")
        server.hang()
        with pytest.raises(RequestTimeoutError):
            client.warm_up(timeout_s=0.2)


def test_clients_of_event_loops_have_the_same_options(server, photo):
    async def ask():
        async with AsyncSapiensClient(server.url) as client:
            await client.warm_up("depth")
            traced = client.with_options(headers={"x-trace": "1f"}, channel_order="bgr")
            return await traced.depth(photo[:, :, ::-1], headers={"x-team": "red"})

    np.testing.assert_array_equal(asyncio.run(ask()).image, photo)
    metadata = server.requests[-1].metadata
    assert (metadata["x-trace"], metadata["x-team"]) == ("1f", "red")
