"""What callers of both clients get for every failure of a call, by the phase in which it strikes.

connect    the request was not sent: nothing listens, or something that is no server
queue      the server refuses at once
compute    the server fails after some work
transfer   half of the request is sent, or half of the reply is here
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import bad_peers as peers
import grpc
import pytest
from told import (
    AGAIN,
    EXPORT,
    FEWER,
    LOG,
    LONGER,
    LOOK,
    SMALLER,
    START,
    THE_SERVERS_OWN,
    TOKEN,
    assert_tells,
    patience_s,
)
from tritonclient.grpc import service_pb2

from sapiens_client import (
    AuthenticationError,
    InferenceError,
    InvalidInputError,
    ModelNotServedError,
    RequestTimeoutError,
    ServerOverloadedError,
    ServerUnavailableError,
    TLSError,
)
from sapiens_client.testing import FakeServer

# In every phase but the first: status -> class, how often the request was sent (at most twice if it may
# be its own fault), what to do.
STATUSES = {
    "CANCELLED": (ServerUnavailableError, 2, START),
    "UNKNOWN": (InferenceError, 1, LOG),
    "INVALID_ARGUMENT": (InvalidInputError, 1, THE_SERVERS_OWN),
    "DEADLINE_EXCEEDED": (RequestTimeoutError, 1, LONGER),
    "NOT_FOUND": (ModelNotServedError, 1, EXPORT),
    "ALREADY_EXISTS": (InferenceError, 1, LOG),
    "PERMISSION_DENIED": (AuthenticationError, 1, TOKEN),
    "RESOURCE_EXHAUSTED": (ServerOverloadedError, AGAIN, FEWER),
    "FAILED_PRECONDITION": (InferenceError, 1, LOG),
    "ABORTED": (InferenceError, 1, LOG),
    "OUT_OF_RANGE": (InferenceError, 1, LOG),
    "UNIMPLEMENTED": (InferenceError, 1, LOG),
    "INTERNAL": (InferenceError, 1, LOG),
    "UNAVAILABLE": (ServerUnavailableError, AGAIN, START),
    "DATA_LOSS": (InferenceError, 1, LOG),
    "UNAUTHENTICATED": (AuthenticationError, 1, TOKEN),
}

# What strikes amid a reply -> words of what was seen, class, how often of at most twice, what to do.
TRANSFERS = {
    "silence": (peers.half, "Deadline Exceeded", RequestTimeoutError, 1, LONGER),
    "silence from the start": (peers.nothing, "Deadline Exceeded", RequestTimeoutError, 1, LONGER),
    "closed": (peers.closed, "closed", ServerUnavailableError, 2, START),
    "torn": (peers.torn, "reset by peer|Broken pipe", ServerUnavailableError, 2, START),
    "leaving": (peers.leaving, "GOAWAY|closed", ServerUnavailableError, 2, START),
    "broken off": (peers.broken_off, "a reply that breaks off", ServerUnavailableError, 2, START),
    "no status": (peers.without_status, "END_STREAM", ServerUnavailableError, 2, START),
    "reset by a proxy": (peers.reset(2), "RST_STREAM", ServerUnavailableError, 2, START),
    "cancelled by a proxy": (peers.reset(8), "RST_STREAM", ServerUnavailableError, 2, START),
    "401 of a proxy": (peers.http(401), "status: 401", AuthenticationError, 1, TOKEN),
    "404 of a proxy": (peers.http(404), "status: 404", ServerUnavailableError, 1, START),
    "413 of a proxy": (peers.http(413), "status: 413", InvalidInputError, 1, SMALLER),
    "429 of a proxy": (peers.http(429), "status: 429", ServerUnavailableError, AGAIN, START),
    "502 of a proxy": (peers.http(502), "status: 502", ServerUnavailableError, AGAIN, START),
    "503 of a proxy": (peers.http(503), "status: 503", ServerUnavailableError, AGAIN, START),
}

# What strikes amid a request, which the server has read in part -> the same.
UPLOADS = {
    "silence": (peers.nothing, "Deadline Exceeded", RequestTimeoutError, 1, LONGER),
    "torn": (peers.torn, "reset by peer|Broken pipe", ServerUnavailableError, 2, START),
    "413 of a proxy": (peers.http(413), "status: 413", InvalidInputError, 1, SMALLER),
}

# What strikes while connecting -> words of what was seen, class, how often of at most twice, what to do.
CONNECTIONS = {
    "silence": (peers.nothing, "Deadline Exceeded|timed out", RequestTimeoutError, 1, LONGER),
    "closed": (peers.closed_at_once, "hung up while connecting", TLSError, 1, LOOK),
    "torn": (peers.torn_at_once, "reset by peer", ServerUnavailableError, AGAIN, START),
    "ssh": (
        peers.greeting(b"SSH-2.0-OpenSSH_9.2"),
        "Failed parsing HTTP/2",
        ServerUnavailableError,
        AGAIN,
        START,
    ),
    "http": (peers.greeting(b"HTTP/1.1 400 No"), "HTTP status 400", ServerUnavailableError, 1, START),
}


@pytest.fixture(scope="module")
def running() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def server(running) -> FakeServer:
    running.recover()
    return running


@pytest.fixture(scope="module")
def config(running) -> bytes:
    """What a server answers about `depth`."""
    with grpc.insecure_channel(running.url) as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelConfig", None, None)
        return ask(service_pb2.ModelConfigRequest(name="depth").SerializeToString())


def test_the_matrix_has_every_status():
    assert {code.name for code in grpc.StatusCode} == {"OK", *STATUSES}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("after_s", [0.0, 0.05], ids=["queue", "compute"])
def test_every_status_of_an_inference_is_told(after_s, status, server, ask, photo):
    num_before = len(server.requests)
    server.fail(grpc.StatusCode[status], "some reason", times=None, after_s=after_s)
    error = ask(server.url, photo, patience_s(STATUSES[status]))
    sent = [each.request_id for each in server.requests[num_before:] if each.method == "ModelInfer"]
    assert_tells(error, STATUSES[status], sent[0])
    assert ({*sent}, error.url) == ({error.request_id}, server.url)
    assert len(sent) in (error.attempts, error.attempts - 1)  # the last may have been too late to be heard of
    assert "some reason" in str(error)


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_amid_a_reply_is_told(status, config, ask, photo):
    def spoil(stream: peers.Stream) -> None:
        peers.half(stream)
        stream.end(grpc.StatusCode[status].value[0], "some reason")

    with peers.spoiling(spoil, config) as url:
        error = ask(url, photo, patience_s(STATUSES[status]))
    assert_tells(error, STATUSES[status], error.request_id)
    assert (error.url, len(error.request_id)) == (url, 8)
    assert "some reason" in str(error)


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_before_an_inference_is_told_without_a_request_id(status, server, ask, photo):
    num_before = len(server.requests)
    server.fail(grpc.StatusCode[status], "some reason", times=None, method="ModelConfig")
    assert_tells(ask(server.url, photo, patience_s(STATUSES[status])), STATUSES[status], None)
    assert {each.method for each in server.requests[num_before:]} <= {
        *("ModelConfig", "ServerReady", "RepositoryIndex")
    }


@pytest.mark.parametrize("what", TRANSFERS)
def test_whatever_strikes_amid_a_reply_is_told(what, config, ask, photo):
    spoil, seen, *told = TRANSFERS[what]
    with peers.spoiling(spoil, config) as url:
        error = ask(url, photo, patience_s(told))
    assert_tells(error, told, error.request_id)
    assert (error.url, len(error.request_id)) == (url, 8)
    assert re.search(seen, str(error))


@pytest.mark.parametrize("what", UPLOADS)
def test_whatever_strikes_amid_a_request_is_told(what, config, ask):
    spoil, seen, *told = UPLOADS[what]
    with peers.spoiling(spoil, config, is_early=True, room=1) as url:
        error = ask(url, bytes(1_000_000), patience_s(told))
    assert_tells(error, told, error.request_id)
    assert (error.url, len(error.request_id)) == (url, 8)
    assert re.search(seen, str(error))


@pytest.mark.parametrize("what", CONNECTIONS)
def test_whatever_strikes_while_connecting_is_told(what, ask, photo):
    treat, seen, *told = CONNECTIONS[what]
    with peers.accepting(treat) as url:
        error = ask(url, photo, patience_s(told))
    assert_tells(error, told, None)
    assert error.url == url
    assert re.search(seen, str(error))


def test_an_address_where_nothing_listens_is_told(dead_url, ask, photo):
    assert_tells(ask(dead_url, photo), (ServerUnavailableError, AGAIN, START), None)


def test_a_server_that_is_none_of_tritons_is_told(ask, photo):
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    error = ask(f"127.0.0.1:{port}", photo)
    server.stop(0).wait()
    assert_tells(error, (ServerUnavailableError, 1, START), None)
    assert "Method not found!" in str(error)


def test_a_server_that_takes_no_large_requests_is_told(config, ask):
    with peers.service(ModelConfig=lambda _: config, ModelInfer=lambda _: b"") as url:
        error = ask(url, bytes(5 << 20))
    assert_tells(error, (InvalidInputError, 1, SMALLER), error.request_id)
    assert "message larger than max" in str(error)


def test_a_failure_without_a_word_still_makes_a_sentence(server, ask, photo):
    server.fail(grpc.StatusCode.ABORTED, "", times=None)
    assert "got ABORTED: no reason; see" in str(ask(server.url, photo))
