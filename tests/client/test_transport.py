from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sapiens_client import (
    InferenceError,
    InvalidInputError,
    ModelNotServedError,
    RequestTimeoutError,
    ServerOverloadedError,
)
from sapiens_client.deadline import Deadline
from sapiens_client.images import encoded_image
from sapiens_client.transport import Transport


@pytest.fixture
def transport(url) -> Iterator[Transport]:
    transport = Transport(url)
    yield transport
    transport.close()


def infer(transport: Transport, model: str, image: np.ndarray) -> np.ndarray:
    inputs = {"image": np.frombuffer(encoded_image(image), np.uint8)}
    return transport.infer(model, inputs, ["depth"], Deadline.after(20)).arrays["depth"]


def test_a_model_that_is_not_served_is_named(transport, photo):
    with pytest.raises(ModelNotServedError, match=r"'pose'.* not found.*sapiens export"):
        infer(transport, "pose", photo)
    with pytest.raises(ModelNotServedError, match=r"'pose'.* not found.*sapiens export"):
        transport.model_info("pose", Deadline.after(20))


def test_a_model_that_was_not_exported_says_what_to_do(transport):
    with pytest.raises(ModelNotServedError, match=r"'crowded'.*parameters.*sapiens export"):
        transport.model_info("crowded", Deadline.after(20))


def test_wrong_inputs_are_the_callers_fault(transport):
    with pytest.raises(InvalidInputError, match=r"^expected 1 inputs but got 0"):
        transport.infer("depth", {}, ["depth"], Deadline.after(20))


def test_an_answer_without_the_output_is_an_error(transport, unanswered_image):
    with pytest.raises(InferenceError, match=r"depth"):
        infer(transport, "stand_in", unanswered_image)


def test_full_and_slow_queues_are_told_apart_from_a_missing_server(transport, slow_image):
    with ThreadPoolExecutor(3) as threads:
        working = threads.submit(infer, transport, "crowded", slow_image)
        time.sleep(0.4)
        waiting = threads.submit(infer, transport, "crowded", slow_image)
        time.sleep(0.4)
        refused = threads.submit(infer, transport, "crowded", slow_image)
    assert working.result().shape == (1, 2)
    assert isinstance(waiting.exception(), RequestTimeoutError)
    assert isinstance(refused.exception(), ServerOverloadedError)
