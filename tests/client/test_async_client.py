from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from sapiens_client import AsyncSapiensClient, ClientClosedError, InvalidInputError, SapiensClient

TWINS = {"__enter__": "__aenter__", "__exit__": "__aexit__"}
ITERATED = ("map", "video")  # one's result is an iterator, the other's an asynchronous one


def public(kind: type) -> dict[str, Callable[..., object]]:
    methods = dict(inspect.getmembers(kind, inspect.isfunction))
    return {
        name: each for name, each in methods.items() if not name.startswith("_") or name in TWINS.values()
    }


def test_both_clients_have_the_same_methods_with_the_same_signatures_and_docstrings():
    twins = public(AsyncSapiensClient)
    assert twins.keys() == public(SapiensClient).keys() | set(TWINS.values())
    assert inspect.signature(AsyncSapiensClient) == inspect.signature(SapiensClient)
    for name, method in public(SapiensClient).items():
        assert inspect.iscoroutinefunction(twins[name]) is (name not in (*ITERATED, "with_options")), (
            "not awaited"
        )
        signatures = [inspect.signature(each) for each in (twins[name], method)]
        if name in ITERATED:
            signatures = [each.replace(return_annotation=None) for each in signatures]
        assert signatures[0] == signatures[1]
        docstrings = [each.__doc__.replace(">>> async for", ">>> for") for each in (twins[name], method)]
        if name == "video":  # which is ended by other words
            docstrings = [each.partition("Returns:")[0] for each in docstrings]
        assert docstrings[0] == docstrings[1]


def test_every_task_answers_as_in_a_thread(url, client, photo):
    tasks = ("depth", "normal", "seg", "features", "detect", "people")

    async def ask() -> list[object]:
        async with AsyncSapiensClient(url) as twin:
            assert await twin.ready()
            together = await twin.analyze(photo, tasks=tasks)
            alone = await asyncio.gather(*(getattr(twin, task)(photo) for task in tasks))
            return [(together[task], result) for task, result in zip(tasks, alone, strict=True)]

    for task, results in zip(tasks, asyncio.run(ask()), strict=True):
        for result in results:
            for name, array in getattr(client, task)(photo).arrays().items():
                np.testing.assert_array_equal(result.arrays()[name], array)


def test_errors_are_the_same(url, dead_url):
    async def ask() -> None:
        async with AsyncSapiensClient(url) as client:
            with pytest.raises(InvalidInputError, match=r"^image must be a JPEG"):
                await client.depth(b"no image at all")
        async with AsyncSapiensClient(dead_url) as client:
            assert not await client.ready()

    asyncio.run(ask())


def test_closing_ends_calls_under_way(url, slow_image):
    async def ask() -> None:
        client = AsyncSapiensClient(url)
        under_way = asyncio.create_task(client.depth(slow_image))
        await asyncio.sleep(0.5)
        await client.close()
        with pytest.raises(ClientClosedError, match="use a new one"):
            await under_way
        with pytest.raises(ClientClosedError, match="use a new one"):
            await client.ready()

    asyncio.run(ask())


def test_cancelling_reaches_the_server(photo):
    is_asked, is_cancelled = threading.Event(), threading.Event()

    def wait(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(is_cancelled.set)
        is_asked.set()
        is_cancelled.wait(20)
        return b""

    async def ask(url: str) -> None:
        async with AsyncSapiensClient(url) as client:
            call = asyncio.create_task(client.depth(photo))
            await asyncio.to_thread(is_asked.wait, 20)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.to_thread(is_cancelled.wait, 5)

    server = grpc.server(ThreadPoolExecutor(1))
    handlers = {"ModelConfig": grpc.unary_unary_rpc_method_handler(wait)}
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)
    server.add_generic_rpc_handlers([service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    asyncio.run(ask(f"127.0.0.1:{port}"))
    server.stop(0).wait()


def test_map_asks_about_many_images_on_an_event_loop(url, photo):
    async def ask() -> list[float]:
        async with AsyncSapiensClient(url) as client:
            items = [item async for item in client.map("depth", [photo, photo[:40]], concurrency=2)]
            return [item.result.depth.shape[0] for item in items]

    assert asyncio.run(ask()) == [120, 40]


def test_a_second_event_loop_is_refused_in_a_sentence(url, photo):
    client = AsyncSapiensClient(url)

    async def ask_and_close() -> None:
        await client.depth(photo)
        await client.close()

    asyncio.run(ask_and_close())
    with pytest.raises(InvalidInputError, match="stay in one event loop"):
        asyncio.run(client.depth(photo))
