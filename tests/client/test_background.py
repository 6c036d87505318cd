"""Threads that nobody waits for are noted and listed by any number of threads at a time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from sapiens_client.background import _THREADS, started


@pytest.fixture
def fast_switches() -> Iterator[None]:
    """Threads take turns as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("fast_switches")
def test_threads_are_listed_while_others_start():
    is_over = threading.Event()
    living = [started(is_over.wait) for _ in range(50)]
    starting = threading.Thread(target=lambda: [started(int) for _ in range(300)])
    starting.start()
    while starting.is_alive():
        assert {*living} <= {*_THREADS.listed()}
    is_over.set()
