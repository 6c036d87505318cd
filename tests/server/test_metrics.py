"""What the Python models of a real server tell Prometheus beside Triton's own metrics."""

from __future__ import annotations

import re
import shutil
import threading
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from real_servers import becomes_true, running

from sapiens_client import InvalidInputError, SapiensClient
from sapiens_core.contract.metrics import PERSONS, REASONS, REFUSED, STEP_SECONDS
from sapiens_server import ServerOptions

MODELS = Path(__file__).parents[2] / "model_repository"
SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)


# Figures come up to a second late, those of other tests' requests, too: so growth is what is looked at.
def counted(server, name, **wanted):
    """Sum of a metric over all processes; labels as wanted."""
    with urllib.request.urlopen(f"http://{server.metrics_url}/metrics", timeout=60) as reply:
        samples = SAMPLE.findall(reply.read().decode())
    labels = {f'{label}="{value}"' for label, value in wanted.items()}
    return sum(
        float(value) for metric, seen, value in samples if metric == name and labels <= {*seen.split(",")}
    )


@pytest.fixture(scope="module")
def client(tasks_server):
    with SapiensClient(tasks_server.grpc_url) as client:
        yield client


def test_every_reason_is_told_from_the_start(tasks_server):
    with urllib.request.urlopen(f"http://{tasks_server.metrics_url}/metrics", timeout=60) as reply:
        told = set(re.findall(rf'^{REFUSED.name}\{{.*reason="(\w+)"', reply.read().decode(), re.MULTILINE))
    assert told == set(REASONS)


@pytest.mark.parametrize(
    ("image", "reason"),
    [(b"no image", "format"), (b"", "incomplete"), (b"\x89PNG\r\n\x1a\n" + bytes(99), "format")],
    ids=["text", "nothing", "no PNG"],
)
def test_a_refused_image_is_counted_by_its_reason(tasks_server, image, reason):
    about = {"model": "dense_preprocess", "reason": reason}
    before = counted(tasks_server, REFUSED.name, **about)
    with triton.InferenceServerClient(tasks_server.grpc_url) as plain:
        tensor = triton.InferInput("image", [len(image)], "UINT8")
        tensor.set_data_from_numpy(np.frombuffer(image, np.uint8))
        with pytest.raises(triton.InferenceServerException, match="image"):
            plain.infer("depth", [tensor])
    assert becomes_true(lambda: counted(tasks_server, REFUSED.name, **about) > before)


def test_a_cut_image_and_a_bad_box_have_reasons_of_their_own(tasks_server, client, photo, encode):
    def counts():
        reasons = ("damaged", "boxes")
        return Counter({reason: counted(tasks_server, REFUSED.name, reason=reason) for reason in reasons})

    before = counts()
    whole = encode(photo, "JPEG")
    with pytest.raises(InvalidInputError, match="truncated"):
        client.depth(whole[: len(whole) // 2])
    with pytest.raises(InvalidInputError, match="bboxes"):
        client.pose(whole, bboxes=[[5000, 5000, 5100, 5100]])
    assert becomes_true(lambda: counts() - before >= Counter(damaged=1, boxes=1))


def test_steps_tell_how_long_they_took_and_how_many_persons_there_were(tasks_server, client, photo):
    steps = ("pose_preprocess", "pose_engine", "pose_postprocess")

    def counts():
        took = {step: counted(tasks_server, f"{STEP_SECONDS.name}_count", model=step) for step in steps}
        persons = {
            side: counted(tasks_server, f"{PERSONS.name}_{side}", model=steps[0]) for side in ("count", "sum")
        }
        return Counter({**took, **persons})

    before = counts()
    client.pose(photo, bboxes=[[0, 0, 20, 30], [5, 5, 30, 40]])
    assert becomes_true(
        lambda: counts() - before >= Counter({**dict.fromkeys(steps, 1), "count": 1, "sum": 2})
    )
    assert counted(tasks_server, f"{STEP_SECONDS.name}_sum", model="pose_engine") > 0


def test_reloading_a_model_under_load_crashes_no_server(tmp_path, photo, encode):
    """Triton shares equal metrics of processes and forgets them with the first (server issue 8663)."""
    step = tmp_path / "dense_preprocess"
    shutil.copytree(MODELS / step.name, step)
    options = ServerOptions("explicit", arguments=(f"--load-model={step.name}",))
    image = np.frombuffer(encode(photo, "JPEG"), np.uint8)
    failures, is_over = [], threading.Event()

    def call():
        with triton.InferenceServerClient(server.grpc_url) as caller:
            while not is_over.is_set():
                tensor = triton.InferInput("image", [image.size], "UINT8").set_data_from_numpy(image)
                caller.infer(step.name, [tensor])

    def keep_calling():
        try:
            call()
        except triton.InferenceServerException as error:
            failures.append(error)

    with running(tmp_path, grpc_port=0, metrics_port=0, options=options) as server:
        caller = threading.Thread(target=keep_calling)
        caller.start()
        with triton.InferenceServerClient(server.grpc_url) as operator:
            for _ in range(3):
                (step / "1" / "model.py").touch()
                operator.load_model(step.name)
                before = counted(server, f"{STEP_SECONDS.name}_count", model=step.name)
                assert becomes_true(lambda seen=before: counted(server, f"{STEP_SECONDS.name}_count") > seen)
        is_over.set()
        caller.join()
        server.look()
    assert not failures
