from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
import traceback
import weakref
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from sapiens_client import ImageReadError, InvalidInputError
from sapiens_client.bulk.run import mapped

WAIT_S = 10  # for what comes at once: a test that waits this long fails


class Gate:
    """Asks that do not return before they are told to; counts those under way."""

    def __init__(self) -> None:
        self.started: SimpleQueue[int] = SimpleQueue()
        self.may_end = [threading.Event() for _ in range(100)]
        self.num_running = self.most_running = 0
        self._lock = threading.Lock()

    def __call__(self, image: int) -> int:
        with self._lock:
            self.num_running += 1
            self.most_running = max(self.most_running, self.num_running)
        self.started.put(image)
        assert self.may_end[image].wait(WAIT_S)
        with self._lock:
            self.num_running -= 1
        return -image

    def wait_for(self, number: int) -> set[int]:
        return {self.started.get(timeout=WAIT_S) for _ in range(number)}

    def open(self, *images: int) -> None:
        for image in images or range(100):
            self.may_end[image].set()


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


class Source:
    """A generator of numbers that counts what was taken and knows whether it was closed."""

    def __init__(self, number: int) -> None:
        self.num_taken, self.is_closed = 0, False
        self.images = self._images(number)

    def _images(self, number):
        try:
            for image in range(number):
                self.num_taken += 1
                yield image
        finally:
            self.is_closed = True


def bad_third(image: int) -> int:
    if image == 3:
        raise ImageReadError("image 3 must be readable")
    return -image


def in_thread(function):
    """Run in the background; the thread's result is in the queue."""
    results: SimpleQueue[object] = SimpleQueue()
    threading.Thread(target=lambda: results.put(function()), daemon=True).start()
    return results


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_items_come_in_the_order_of_the_images(concurrency):
    items = list(mapped(lambda image: -image, range(40), concurrency=concurrency))
    assert [(item.index, item.result, item.error, item.image) for item in items] == [
        (index, -index, None, None) for index in range(40)
    ]


def test_no_images_are_no_items():
    assert list(mapped(abs, [])) == list(mapped(abs, [], ordered=False)) == []


def test_a_late_image_comes_late_where_order_does_not_matter(gate):
    gate.open(1, 2)
    items = mapped(gate, range(3), concurrency=2, ordered=False)
    assert [next(items).index for _ in range(2)] == [1, 2]
    gate.open()
    assert [item.index for item in items] == [0]


def test_a_late_image_is_waited_for_in_order(gate):
    gate.open(*range(1, 8))
    indices = in_thread(lambda: [item.index for item in mapped(gate, range(8), concurrency=2)])
    assert gate.wait_for(4) == {0, 1, 2, 3}  # the window is full: 0 is not handed back
    assert indices.empty()
    gate.open()
    assert indices.get(timeout=WAIT_S) == [*range(8)]


@pytest.mark.parametrize(("ordered", "most_taken"), [(True, 6), (False, 3)])
def test_a_slow_image_bounds_what_is_taken(gate, ordered, most_taken):
    source = Source(100)
    items = mapped(gate, source.images, concurrency=3, ordered=ordered)
    first = in_thread(lambda: next(items))
    gate.wait_for(3)
    gate.open(1, 2)
    if ordered:
        gate.wait_for(most_taken - 3 - 1)
    else:
        assert first.get(timeout=WAIT_S).index in (1, 2)
    assert source.num_taken <= most_taken
    assert gate.most_running <= 3
    gate.open()


@pytest.mark.parametrize("ordered", [True, False])
def test_a_slow_reader_bounds_what_is_taken(ordered):
    source = Source(1000)
    for num_read, _ in enumerate(mapped(abs, source.images, concurrency=4, ordered=ordered)):
        assert source.num_taken - num_read <= (8 if ordered else 4)


def test_concurrency_is_reached_and_not_exceeded(gate):
    done = in_thread(lambda: list(mapped(gate, range(20), concurrency=5)))
    assert gate.wait_for(5) == {*range(5)}
    gate.open()
    assert len(done.get(timeout=WAIT_S)) == 20
    assert gate.most_running == 5


def test_nothing_is_taken_before_the_first_item_is_wanted():
    source = Source(3)
    items = mapped(abs, source.images)
    assert source.num_taken == 0
    assert [item.index for item in items] == [0, 1, 2]


def test_an_endless_input_is_no_hindrance():
    items = mapped(abs, itertools.count())
    assert [item.result for item in itertools.islice(items, 100)] == [*range(100)]


def test_the_first_error_in_order_ends_everything_and_closes_the_input():
    source = Source(1000)
    seen = []
    with pytest.raises(ImageReadError, match="image 3"):
        seen += (item.index for item in mapped(bad_third, source.images, concurrency=2))
    assert source.is_closed
    assert source.num_taken <= 3 + 4


def test_an_error_comes_at_once_where_order_does_not_matter(gate):
    def ask(image):
        return gate(image) if image == 0 else bad_third(3)

    with pytest.raises(ImageReadError):
        list(mapped(ask, range(5), concurrency=2, ordered=False))


@pytest.mark.parametrize("ordered", [True, False])
def test_errors_may_travel_in_items(ordered):
    items = list(mapped(bad_third, range(6), ordered=ordered, on_error="yield"))
    items.sort(key=lambda item: item.index)
    assert [item.index for item in items if item.error] == [3]
    with pytest.raises(ImageReadError, match="image 3"):
        _ = items[3].result
    assert [item.result for item in items if not item.error] == [0, -1, -2, -4, -5]


def test_a_mistake_in_the_program_ends_everything_in_either_mode():
    with pytest.raises(ZeroDivisionError):
        list(mapped(lambda image: 1 // image, range(3), on_error="yield"))


def test_an_error_of_the_input_is_raised():
    def images():
        yield 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        list(mapped(abs, images()))


@pytest.mark.parametrize("concurrency", [0, -1, 1.5])
def test_a_wrong_concurrency_is_refused_at_once(concurrency):
    with pytest.raises(InvalidInputError, match=f"got {concurrency}"):
        mapped(abs, [], concurrency=concurrency)


def test_a_wrong_mode_is_refused_at_once():
    with pytest.raises(InvalidInputError, match="got 'ignore'"):
        mapped(abs, [], on_error="ignore")


def test_closing_waits_for_no_call_and_starts_none(gate):
    source = Source(100)
    items = mapped(gate, source.images, concurrency=2)
    gate.open(0)
    assert next(items).index == 0
    items.close()
    assert source.is_closed
    gate.open()
    for thread in threading.enumerate():
        if thread.name.startswith("sapiens-"):
            thread.join(WAIT_S)
            assert not thread.is_alive()
    assert {gate.started.get() for _ in range(gate.started.qsize())} <= {0, 1, 2}
    assert list(items) == []


def test_ctrl_c_in_the_reader_stops_at_once(gate):
    source = Source(100)
    gate.open(0)

    def read():
        for _ in mapped(gate, source.images, concurrency=2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read()
    gc.collect()
    assert source.is_closed


def test_paths_stay_in_items_and_pixels_do_not():
    path = Path("a.jpg")
    assert [item.image for item in mapped(str, [path, "b.jpg", b"bytes"])] == [path, "b.jpg", None]


@pytest.mark.parametrize("fails", [False, True])
def test_the_pixels_are_let_go_with_the_answer(fails):
    pixels = []

    def images():
        for _ in range(5):
            image = np.zeros((2, 2, 3), np.uint8)
            pixels.append(weakref.ref(image))
            yield image
            del image

    def ask(image):
        if fails:
            try:
                image.reshape(7)
            except ValueError as error:
                raise ImageReadError("unreadable") from error
        return image.shape

    items = list(mapped(ask, images(), concurrency=2, on_error="yield"))
    gc.collect()
    assert all((item.error is not None) == fails for item in items)
    assert [pixel() for pixel in pixels] == [None] * 5


def test_an_error_that_is_raised_keeps_what_debuggers_show():
    def ask(image):
        reason = f"image {image} is gone"
        raise ImageReadError(reason)

    with pytest.raises(ImageReadError) as raised:
        list(mapped(ask, [7]))
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(raised.value.__traceback__)]
    assert frames[-1] == {"image": 7, "reason": "image 7 is gone"}


PROGRAM = """
import sys, threading
from sapiens_client.bulk.run import mapped
started = threading.Event()
def ask(image):
    started.set()
    threading.Event().wait(600)
def images():
    try:
        yield from range(100)
    finally:
        print("closed")
def interrupt():
    started.wait()
    import os, signal
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
list(mapped(ask, images()))
"""


def test_ctrl_c_while_waiting_ends_the_program_though_calls_are_under_way():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.stdout == "closed\n"
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert done.returncode == -2
