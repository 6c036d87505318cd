"""What the process of a model tells Prometheus, through Triton's metrics."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils

from sapiens_core.contract.metrics import FAILED, PERSONS, REFUSED, STEP_SECONDS, Metric, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

_DELAY_S = 1.0


class Figures:
    """Notes figures at no cost for requests, and hands them to the server a second later, on a thread.

    Each is a message to the server and takes some 15 µs. `process` is one of the labels because Triton shares
    equal metrics among processes, and crashes once the first of these has ended (server issue 8663).

    Args:
        model: Name of the model.
        metrics: Those that it has.
    """

    def __init__(self, model: str, *metrics: Metric) -> None:
        self._noted: deque[Callable[[], Any]] = deque()
        self._is_due = threading.Lock()
        self._timer: threading.Timer | None = None
        self._families: list[Any] = []
        self._metrics: dict[tuple[str, str], Any] = {}
        labels = {"model": model, "process": str(os.getpid())}
        try:
            for metric in metrics:
                self._make(metric, labels)
        except pb_utils.TritonModelException as error:  # built without metrics
            pb_utils.Logger.log_warning(f"{model} counts nothing of its own: {error}")
            self.close()

    def took(self, seconds: float) -> None:
        """Note how long one step worked."""
        self._note(STEP_SECONDS, seconds)

    def persons(self, num: int) -> None:
        """Note how many persons an image has."""
        self._note(PERSONS, float(num))

    def failed(self, error: Exception) -> None:
        """Note that a request failed, and whether that is its own fault."""
        if isinstance(error, ValueError):
            self._note(REFUSED, 1.0, error.reason if isinstance(error, RefusedError) else "other")
        else:
            self._note(FAILED, 1.0)

    def close(self) -> None:
        """Hand over the rest and let go of the metrics."""
        self._is_due.acquire(blocking=False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        self._hand_over()
        for each in (*self._metrics.values(), *self._families):
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(each))
        self._metrics.clear()
        self._families.clear()

    def _make(self, metric: Metric, labels: dict[str, str]) -> None:
        kinds = pb_utils.MetricFamily
        kind = kinds.HISTOGRAM if metric.buckets else kinds.COUNTER
        family = pb_utils.MetricFamily(name=metric.name, description=metric.about, kind=kind)
        self._families.append(_kept(family))
        more = {"buckets": list(map(float, metric.buckets))} if metric.buckets else {}
        for value in metric.values:
            own = {**labels, metric.label: value} if metric.label else labels
            self._metrics[metric.name, value] = _kept(family.Metric(labels=own, **more))

    def _note(self, metric: Metric, value: float, label: str = "") -> None:
        counter = self._metrics.get((metric.name, label))
        if counter is None:
            return
        self._noted.append(partial(counter.observe if metric.buckets else counter.increment, value))
        if self._is_due.acquire(blocking=False):
            self._timer = threading.Timer(_DELAY_S, self._hand_over_later)
            self._timer.daemon = True
            self._timer.start()

    def _hand_over_later(self) -> None:
        self._is_due.release()
        self._hand_over()

    def _hand_over(self) -> None:
        with suppress(IndexError, pb_utils.TritonModelException):  # no more of them; a server that ends
            while True:
                self._noted.popleft()()


def _kept(each: Any) -> Any:
    """Keep an object beyond the end of Python: the process crashes where a metric ends as late (8662).

    So it does when the server has died, after which nothing is closed any more.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))
    return each
