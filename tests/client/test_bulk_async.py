from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from sapiens_client import ImageReadError, InvalidInputError
from sapiens_client.bulk.run import mapped_async


class Gate:
    """Asks that do not return before they are told to; knows what was started and cancelled."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.may_end = [asyncio.Event() for _ in range(100)]

    async def __call__(self, image: int) -> int:
        self.started.append(image)
        try:
            await self.may_end[image].wait()
        except asyncio.CancelledError:
            self.cancelled.append(image)
            raise
        return -image

    def open(self, *images: int) -> None:
        for image in images or range(100):
            self.may_end[image].set()


class Source:
    """An asynchronous generator of numbers that counts what was taken and knows whether it was closed."""

    def __init__(self, number: int) -> None:
        self.num_taken, self.is_closed = 0, False
        self.images = self._images(number)

    async def _images(self, number: int) -> AsyncIterator[int]:
        try:
            for image in range(number):
                self.num_taken += 1
                await asyncio.sleep(0)
                yield image
        finally:
            self.is_closed = True


async def negative(image: int) -> int:
    await asyncio.sleep(0)
    return -image


async def bad_third(image: int) -> int:
    if image == 3:
        raise ImageReadError("image 3 must be readable")
    return await negative(image)


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_items_come_in_the_order_of_the_images(concurrency, is_async):
    async def run():
        images = Source(40).images if is_async else range(40)
        return [item async for item in mapped_async(negative, images, concurrency=concurrency)]

    assert [(item.index, item.result) for item in asyncio.run(run())] == [(i, -i) for i in range(40)]


def test_a_late_image_comes_late_where_order_does_not_matter():
    async def run():
        gate = Gate()
        gate.open(1, 2)
        items = mapped_async(gate, range(3), concurrency=2, ordered=False)
        early = [(await anext(items)).index for _ in range(2)]
        gate.open()
        return early + [item.index async for item in items]

    assert asyncio.run(run()) == [1, 2, 0]


@pytest.mark.parametrize(("ordered", "num_taken"), [(True, 6), (False, 3)])
def test_a_slow_image_bounds_what_is_taken(ordered, num_taken):
    async def run():
        gate, source = Gate(), Source(100)
        items = mapped_async(gate, source.images, concurrency=3, ordered=ordered)
        first = asyncio.create_task(anext(items))
        await settle()
        assert gate.started == [0, 1, 2]
        gate.open(*range(1, 100))
        await settle()
        assert (first.done(), len(gate.started), source.num_taken) == (not ordered, num_taken, num_taken)
        first.cancel()
        await asyncio.wait([first])
        await items.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("fails", [False, True])
def test_the_pixels_are_let_go_with_the_answer(fails):
    pixels = []

    def images():
        for _ in range(5):
            image = np.zeros((2, 2, 3), np.uint8)
            pixels.append(weakref.ref(image))
            yield image
            del image

    async def ask(image):
        await asyncio.sleep(0)
        if fails:
            try:
                image.reshape(7)
            except ValueError as error:
                raise ImageReadError("unreadable") from error
        return image.shape

    async def run():
        return [item async for item in mapped_async(ask, images(), concurrency=2, on_error="yield")]

    items = asyncio.run(run())
    gc.collect()
    assert all((item.error is not None) == fails for item in items)
    assert [pixel() for pixel in pixels] == [None] * 5


def test_the_first_error_in_order_ends_everything_and_closes_the_input():
    async def run():
        source = Source(1000)
        items = mapped_async(bad_third, source.images, concurrency=2)
        assert [(await anext(items)).index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ImageReadError, match="image 3"):
            await anext(items)
        assert source.is_closed
        assert source.num_taken <= 3 + 4

    asyncio.run(run())


def test_errors_may_travel_in_items():
    async def run():
        return [item async for item in mapped_async(bad_third, range(6), on_error="yield")]

    items = asyncio.run(run())
    assert [item.index for item in items if item.error] == [3]
    with pytest.raises(ImageReadError, match="image 3"):
        _ = items[3].result


def test_a_mistake_in_the_program_ends_everything_in_either_mode():
    async def ask(image):
        return 1 // image

    async def run():
        return [item async for item in mapped_async(ask, range(3), on_error="yield")]

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())


def test_closing_cancels_what_is_under_way_and_starts_nothing():
    async def run():
        gate, source = Gate(), Source(100)
        gate.open(0)
        async with aclosing(mapped_async(gate, source.images, concurrency=2, ordered=False)) as items:
            async for _ in items:
                break
        assert source.is_closed
        assert gate.cancelled == gate.started[1:]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_cancelling_the_reader_cancels_the_calls():
    async def run():
        gate = Gate()

        async def read():
            async with aclosing(mapped_async(gate, range(10), concurrency=4)) as items:
                return [item async for item in items]

        task = asyncio.create_task(read())
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gate.started == sorted(gate.cancelled) == [0, 1, 2, 3]

    asyncio.run(run())


def test_a_call_that_cancels_itself_is_no_hang():
    async def ask(image):
        raise asyncio.CancelledError

    async def run():
        await anext(mapped_async(ask, range(3)))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(asyncio.wait_for(run(), 10))


def test_a_wrong_concurrency_is_refused_at_once():
    with pytest.raises(InvalidInputError, match="got 0"):
        mapped_async(negative, [], concurrency=0)
