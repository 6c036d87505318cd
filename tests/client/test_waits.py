"""Servers that are full or away are waited for until the deadline of the call, and get no more load by it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import bad_peers as peers
import grpc
import pytest
from PIL import Image
from tritonclient.grpc import service_pb2
from typer.testing import CliRunner

from sapiens_client import (
    AsyncSapiensClient,
    ClientClosedError,
    ClientOptions,
    DepthResult,
    RequestTimeoutError,
    SapiensClient,
    ServerOverloadedError,
    ServerUnavailableError,
)
from sapiens_client.cli.commands import app
from sapiens_client.servers.pace import LEAST_S, Pace
from sapiens_client.testing import FakeServer, Fault


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def num_inferences(server: FakeServer) -> int:
    return sum(request.method == "ModelInfer" for request in server.requests)


def eventually(claim: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 60
    while not claim() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return claim()


def pace_of(client: SapiensClient) -> Pace:
    return client._session._attempts._paces["ModelInfer", "depth"]


@contextmanager
def full_for(server: FakeServer, num_refusals: int) -> Iterator[None]:
    """A server that has no room until it has refused so many requests."""
    before = num_inferences(server)
    server.room = 0

    def make_room() -> None:
        eventually(lambda: num_inferences(server) >= before + num_refusals)
        server.room = None

    thread = threading.Thread(target=make_room)
    thread.start()
    yield
    thread.join()


@contextmanager
def away_for(server: FakeServer, seconds: float) -> Iterator[None]:
    server.cut()
    timer = threading.Timer(seconds, server.start)
    timer.start()
    yield
    timer.join()


def test_a_server_that_is_full_is_asked_again_until_it_has_room(server, ask, photo):
    with full_for(server, 6):
        result = ask(server.url, photo, 60)
    assert isinstance(result, DepthResult)
    assert result.timing.attempts > 6


def test_a_server_that_stays_full_is_told_at_the_deadline_and_not_before(server, ask, photo):
    server.room = 0
    started_s = time.monotonic()
    error = ask(server.url, photo, 1.5)
    assert isinstance(error, ServerOverloadedError)
    assert time.monotonic() - started_s > 1.5 - 2 * LEAST_S
    assert error.attempts > 4


@pytest.mark.parametrize("fault", [Fault.QUEUE_FULL, Fault.QUEUE_TIMEOUT, Fault.UNAVAILABLE, Fault.EXITING])
def test_what_is_no_fault_of_the_request_is_not_counted(fault, server, ask, photo):
    server.fail(fault, times=5)
    assert ask(server.url, photo, 60).timing.attempts == 6


def test_what_may_be_the_requests_own_fault_is_counted(server, ask, photo):
    with grpc.insecure_channel(server.url) as channel:
        ask_config = channel.unary_unary("/inference.GRPCInferenceService/ModelConfig", None, None)
        config = ask_config(service_pb2.ModelConfigRequest(name="depth").SerializeToString())
    with peers.spoiling(peers.closed, config) as url:
        error = ask(url, photo, 60)
    assert isinstance(error, ServerUnavailableError)
    assert error.attempts == 2


@pytest.mark.parametrize("method", ["ServerReady", "ModelInfer"])
def test_the_only_server_is_waited_for_while_it_is_away(method, server, photo):
    with SapiensClient(server.url) as client:
        client.depth(photo)
        server.fail(Fault.EXITING, times=3, method=method)
        with away_for(server, 1.0):
            assert client.depth(photo).image_hw == (120, 90)


def test_the_only_server_is_waited_for_on_an_event_loop(server, photo):
    async def ask() -> list[DepthResult]:
        async with AsyncSapiensClient(server.url) as client:
            await client.depth(photo)
            with away_for(server, 1.0):
                return await asyncio.gather(*(client.depth(photo) for _ in range(20)))

    assert len(asyncio.run(ask())) == 20


def test_no_call_fails_when_the_only_server_is_restarted_under_load(server, photo):
    is_over = threading.Event()

    def call(client: SapiensClient) -> int:
        number = 0
        while not is_over.is_set():
            number += bool(client.depth(photo))
        return number

    server.latency_s = 0.02
    with SapiensClient(server.url) as client, ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(call, client) for _ in range(8)]
        assert eventually(lambda: num_inferences(server) > 50)
        with away_for(server, 1.0):
            pass
        before = num_inferences(server)
        assert eventually(lambda: num_inferences(server) > before + 50)
        is_over.set()
        assert all(each.result() for each in calls)


def test_callers_do_not_ask_in_vain_while_the_only_server_is_away(server, photo, caplog):
    caplog.set_level("INFO", "sapiens_client")
    with SapiensClient(server.url) as client, ThreadPoolExecutor(20) as threads:
        client.depth(photo)
        with away_for(server, 2.0):
            assert all(threads.map(client.depth, [photo] * 20))
    assert len(caplog.records) < 20 * 4


def test_a_server_that_says_it_is_ready_and_is_not_is_left_alone_longer_and_longer(server, ask, photo):
    server.fail(Fault.UNAVAILABLE, times=None)
    assert 4 < ask(server.url, photo, 3.0).attempts < 40


@pytest.mark.parametrize("several", [False, True], ids=["one", "two"])
def test_an_address_that_never_answered_is_given_up_soon(several, dead_url, photo):
    urls = [dead_url, "127.0.0.1:1"] if several else dead_url
    options = ClientOptions(patience_s=0.5)
    with (
        SapiensClient(urls, timeout_s=3600, options=options) as client,
        pytest.raises(ServerUnavailableError, match="start it with `sapiens serve`"),
    ):
        client.depth(photo)


def test_a_server_that_is_full_from_the_start_has_answered(server, photo):
    server.fail(Fault.QUEUE_FULL, times=8, method="ModelConfig")
    with SapiensClient(server.url, options=ClientOptions(patience_s=0.1)) as client:
        assert client.depth(photo).image_hw == (120, 90)


def test_a_server_that_is_just_being_started_is_waited_for(server, photo):
    with away_for(server, 1.0), SapiensClient(server.url, options=ClientOptions(patience_s=60)) as client:
        assert client.depth(photo).image_hw == (120, 90)


def test_closing_ends_the_waiting(server, photo):
    server.room = 0
    with SapiensClient(server.url, timeout_s=3600) as client, ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(client.depth, photo) for _ in range(8)]
        assert eventually(lambda: num_inferences(server) > 12)
        client.close()
        assert {type(call.exception(30)) for call in calls} == {ClientClosedError}


def test_many_images_are_all_answered_by_a_server_with_little_room(server, photo):
    server.room, server.latency_s = 8, 0.02
    with SapiensClient(server.url) as client:
        items = list(client.map("depth", [photo] * 200, concurrency=40, on_error="yield"))
    assert [item.error for item in items] == [None] * 200
    assert num_inferences(server) < 2 * 200


def test_many_images_wait_on_an_event_loop_for_a_server_that_is_full_for_a_while(server, photo):
    async def ask() -> list[object]:
        async with AsyncSapiensClient(server.url) as client:
            with full_for(server, 50):
                items = client.map("depth", [photo] * 60, concurrency=40, on_error="yield")
                return [item.error async for item in items]

    assert asyncio.run(ask()) == [None] * 60


def test_the_command_waits_for_a_server_that_is_full(server, photo, tmp_path):
    for number in range(10):
        Image.fromarray(photo).save(tmp_path / f"{number}.png")
    with full_for(server, 6):
        done = CliRunner().invoke(
            app, ["depth", str(tmp_path), "-o", str(tmp_path / "out"), "--url", server.url]
        )
    assert done.exit_code == 0, done.stderr
    assert "10 done, 0 skipped, 0 failed" in done.stderr


def test_a_request_that_never_had_its_turn_says_that_the_server_is_full(server, photo):
    with SapiensClient(server.url) as client, ThreadPoolExecutor(10) as threads:
        client.depth(photo)
        server.room = 0
        patient = [threads.submit(client.depth, photo) for _ in range(10)]
        assert eventually(lambda: pace_of(client).limit == 1)
        server.hang("ModelInfer")
        server.room = 1
        assert eventually(lambda: server._traffic._num_inferences == 1)  # the only one that may be under way
        with pytest.raises(ServerOverloadedError, match="Exceeds maximum queue size; send fewer") as caught:
            client.depth(photo, timeout_s=0.2)
        assert caught.value.attempts == 0
        server.room = None
        server.release()
        assert all(each.result() for each in patient)


def test_a_request_that_never_had_its_turn_does_not_blame_a_refusal_of_long_ago(server, photo):
    with SapiensClient(server.url) as client, ThreadPoolExecutor(6) as threads:
        client.depth(photo)
        server.fail(Fault.QUEUE_FULL)
        client.depth(photo)
        assert pace_of(client).limit < 6
        server.hang("ModelInfer")
        calls = [threads.submit(client.depth, photo, timeout_s=1) for _ in range(6)]
        errors = [call.exception() for call in calls]
        server.release()
    assert [type(error) for error in errors] == [RequestTimeoutError] * 6
    assert all(error.url == server.url and "must answer within 1 s" in str(error) for error in errors)


def test_a_request_that_pauses_lets_others_have_its_turn(server, photo):
    with SapiensClient(server.url) as client, ThreadPoolExecutor(1) as threads:
        client.depth(photo)
        server.room = 0
        patient = threads.submit(client.depth, photo)
        assert eventually(lambda: pace_of(client).limit == 1)
        with pytest.raises(ServerOverloadedError) as caught:
            client.depth(photo, timeout_s=5)
        assert caught.value.attempts > 1
        server.room = None
        assert patient.result()


def test_a_request_that_waits_for_a_server_lets_others_have_its_turn(server, photo):
    with SapiensClient(server.url) as client, ThreadPoolExecutor(1) as threads:
        client.depth(photo)
        server.fail(Fault.QUEUE_FULL)
        client.depth(photo)
        pace = pace_of(client)
        server.cut()
        patient = threads.submit(client.depth, photo)
        assert eventually(lambda: client._session._attempts._replicas._waiting)
        turns = [pace.line_up(time.monotonic() + 60) for _ in range(int(pace.limit))]
        assert [turn.has_begun for turn in turns] == [True] * len(turns)
        for turn in turns:
            pace.give_back(turn)
        server.start()
        assert patient.result()


IMPATIENT = ClientOptions(keepalive_s=1)


def test_a_server_that_wants_no_pings_is_asked_without_them_and_not_thought_gone(monkeypatch, photo, caplog):
    monkeypatch.setattr("sapiens_client.testing.server._OPTIONS", ())  # as a plain tritonserver
    caplog.set_level("INFO", "sapiens_client")
    with FakeServer() as server, SapiensClient(server.url, timeout_s=600, options=IMPATIENT) as client:
        client.depth(photo)
        with ThreadPoolExecutor(2) as threads:
            server.hang("ModelInfer")
            calls = [threads.submit(client.depth, photo) for _ in range(2)]
            assert eventually(lambda: num_inferences(server) >= 5)  # all were sent again
            assert not any(request.method == "ServerReady" for request in server.requests)
            server.release()
            assert [call.result().timing.attempts for call in calls] == [2, 2]
    assert caplog.text.count("Too many pings; trying again in 0.00 s") == 2


@pytest.mark.slow
def test_a_fake_server_consents_to_pings_as_the_real_one_does(server, photo):
    options = ClientOptions(keepalive_s=5.5)
    with (
        SapiensClient(server.url, timeout_s=600, options=options) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        server.hang("ModelInfer")
        call = threads.submit(client.depth, photo)
        time.sleep(30)  # five pings; the third in vain would cut the connection
        server.release()
        assert call.result().timing.attempts == 1
