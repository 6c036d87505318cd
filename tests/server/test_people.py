"""The detector and the model that calls it and the pose engine, on a real tritonserver."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as triton
from real_servers import running
from tritonclient.utils import InferenceServerException

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.settings import PeopleSettings, StepSettings
from sapiens_export.engines.torchscript import engine_from_torchscript
from sapiens_export.exporter import export_engine
from sapiens_export.networks.config import NANODET
from sapiens_export.parity import pipeline
from sapiens_export.repository.configs import step_settings
from sapiens_export.repository.serving import Serving
from sapiens_export.weights.sources import built_in_detector

MAX_BATCH_SIZE = 4
SETTINGS = PeopleSettings(
    step_settings(NANODET, Serving()), StepSettings((64, 48), MAX_BATCH_SIZE), num_keypoints=17
)
PORTRAITS = [(20, 20, 240), (300, 10, 300), (30, 280, 190)]  # left, top, side
SLOW, UNCOUNTABLE = 255, 254

# Takes the place of the built-in detector: finds as many people as the image is red.
STAND_IN = """
import time

import numpy as np

from sapiens_core.triton.respond import respond

class TritonPythonModel:
    def execute(self, requests):
        return respond(requests, ("pixels",), find)

def find(pixels):
    count = int(pixels[0, 0, 0, 0])
    if count == 254:
        raise ValueError("so many people cannot be counted")
    if count == 255:
        time.sleep(1)
        count = 1
    rows, columns = np.divmod(np.arange(count), 10)
    bboxes, scores = np.zeros((1, 500, 4), np.float32), np.zeros((1, 500), np.float32)
    bboxes[0, :count] = np.stack([columns * 40, rows * 60, columns * 40 + 25, rows * 60 + 45], axis=1)
    scores[0, :count] = np.linspace(0.45, 0.9, count)
    return {"candidate_bboxes": bboxes, "candidate_scores": scores}
"""


class Asker:
    def __init__(self, url):
        self.client = triton.InferenceServerClient(url)

    def __call__(self, model, image, *, timeout_s=None, **inputs):
        """Return the outputs of a model by name; `image` is the bytes of a file, None: not sent."""
        arrays = inputs if image is None else {"image": np.frombuffer(image, np.uint8), **inputs}
        kinds = {"uint8": "UINT8", "float32": "FP32", "bool": "BOOL"}
        tensors = []
        for name, array in arrays.items():
            tensors.append(triton.InferInput(name, list(array.shape), kinds[array.dtype.name]))
            tensors[-1].set_data_from_numpy(array)
        reply = self.client.infer(model, tensors, client_timeout=timeout_s)
        return {output.name: reply.as_numpy(output.name) for output in reply.get_response().outputs}

    def num_runs(self, model):
        statistics = self.client.get_inference_statistics(model, as_json=True)
        return int(statistics["model_stats"][0].get("execution_count", 0))


@pytest.fixture(scope="module")
def repository(export_golden, tmp_path_factory):
    """The built-in detector and the reference's tiny pose network."""
    repository = tmp_path_factory.mktemp("people") / "models"
    export_engine(built_in_detector(), repository)
    export_golden("pose17", repository)
    return repository


@pytest.fixture(scope="module")
def engine_at(repository):
    """A function (name of an engine's model) -> that engine in this process."""
    return lambda model: engine_from_torchscript(repository / model / "1" / ENGINE_FILES["python"])


@pytest.fixture(scope="module")
def ask(repository):
    with running(repository, grpc_port=0) as server:
        yield Asker(server.grpc_url)


@pytest.fixture(scope="module")
def ask_stand_in(export_golden, tmp_path_factory):
    """The same with a detector that finds what the test wants, one process, and a queue of one request."""
    repository = tmp_path_factory.mktemp("crowd") / "models"
    export_engine(built_in_detector(), repository, serving=Serving(cpu_instances=1, max_queue_size=1))
    export_golden("pose17", repository)
    (repository / "detect_engine" / "1" / "model.py").write_text(STAND_IN)
    with running(repository, grpc_port=0) as server:
        yield Asker(server.grpc_url)


@pytest.fixture(scope="module")
def people(picture_of_people, encode):
    return encode(picture_of_people(PORTRAITS))


@pytest.fixture(scope="module")
def empty(encode):
    return encode(np.full((300, 400, 3), 128, np.uint8))


@pytest.fixture
def crowd(encode):
    """A function (number of people) -> an image in which the stand-in finds them."""

    def image_of(count):
        image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        image[:, :, 0] = count
        return encode(image)

    return image_of


def assert_pose_equals(seen, keypoints, scores):
    np.testing.assert_allclose(seen["keypoints"], keypoints, rtol=0, atol=1e-3)
    np.testing.assert_allclose(seen["scores"], scores, rtol=0, atol=1e-5)


def test_everybody_is_found_where_they_stand(ask, people):
    found = ask("detect", people)
    assert found["bboxes"].shape == (len(PORTRAITS), 4)
    assert found["image_hw"].tolist() == [480, 640]
    assert (np.diff(found["scores"]) <= 0).all()
    expected = [[left, top, left + 0.7 * side, top + side] for left, top, side in PORTRAITS]
    order = np.lexsort(found["bboxes"].T[:1])
    np.testing.assert_allclose(found["bboxes"][order], sorted(expected), atol=20)


def test_the_served_detector_equals_the_one_in_this_process(ask, people, engine_at):
    found = ask("detect", people)
    bboxes, scores = pipeline.detect(people, engine_at("detect_engine"), SETTINGS.detect)
    np.testing.assert_allclose(found["bboxes"], bboxes, rtol=0, atol=1e-3)
    np.testing.assert_allclose(found["scores"], scores, rtol=0, atol=1e-5)


def test_nobody_in_an_empty_picture_is_an_answer(ask, empty):
    found = ask("detect", empty)
    assert (found["bboxes"].shape, found["scores"].shape) == ((0, 4), (0,))
    pose = ask("people_pose", empty)
    shapes = {name: array.shape for name, array in pose.items()}
    assert shapes == {
        "keypoints": (0, 17, 2),
        "scores": (0, 17),
        "person_bboxes": (0, 4),
        "bbox_scores": (0,),
        "image_hw": (2,),
    }


def test_the_pose_of_people_equals_detecting_and_then_asking_for_poses(ask, people):
    pose, found = ask("people_pose", people), ask("detect", people)
    np.testing.assert_array_equal(pose["person_bboxes"], found["bboxes"])
    np.testing.assert_array_equal(pose["bbox_scores"], found["scores"])
    separate = ask("pose", people, bboxes=found["bboxes"])
    assert_pose_equals(pose, separate["keypoints"], separate["scores"])


def test_the_pose_of_people_equals_the_one_in_this_process(ask, people, engine_at):
    engines = engine_at("detect_engine"), engine_at("pose_engine")
    expected = pipeline.people_pose(people, *engines, SETTINGS)
    pose = ask("people_pose", people)
    assert_pose_equals(pose, expected.keypoints, expected.scores)
    np.testing.assert_allclose(pose["person_bboxes"], expected.person_bboxes, rtol=0, atol=1e-3)


def test_the_whole_image_is_a_person_where_there_is_nobody_but_only_on_request(ask, empty):
    pose = ask("people_pose", empty, whole_image_if_nobody=np.array([True]))
    assert pose["person_bboxes"].tolist() == [[0, 0, 400, 300]]
    assert pose["bbox_scores"].tolist() == [0]
    whole = ask("pose", empty)
    assert_pose_equals(pose, whole["keypoints"], whole["scores"])
    assert len(ask("people_pose", empty, whole_image_if_nobody=np.array([False]))["keypoints"]) == 0


def test_somebody_found_is_not_replaced_by_the_whole_image(ask, people):
    pose = ask("people_pose", people, whole_image_if_nobody=np.array([True]))
    assert len(pose["person_bboxes"]) == len(PORTRAITS)


@pytest.mark.parametrize("model", ["detect", "people_pose"])
def test_a_bad_image_gets_a_sentence_and_the_next_good_one_its_answer(model, ask, people):
    with pytest.raises(InferenceServerException, match="hello") as caught:
        ask(model, b"hello, I am no image")
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert len(ask(model, people)["scores"]) == len(PORTRAITS)


def test_fifty_people_are_answered_in_the_order_of_their_boxes(ask_stand_in, crowd):
    image = crowd(50)
    pose, found = ask_stand_in("people_pose", image), ask_stand_in("detect", image)
    assert pose["keypoints"].shape == (50, 17, 2)
    np.testing.assert_array_equal(pose["person_bboxes"], found["bboxes"])
    assert (np.diff(pose["bbox_scores"]) < 0).all()
    parts = [
        ask_stand_in("pose", image, bboxes=found["bboxes"][start : start + MAX_BATCH_SIZE])
        for start in range(0, 50, MAX_BATCH_SIZE)
    ]
    keypoints, scores = (np.concatenate([part[name] for part in parts]) for name in ("keypoints", "scores"))
    assert_pose_equals(pose, keypoints, scores)


def test_for_a_caller_who_has_left_no_further_engine_is_called(ask_stand_in, crowd):
    ask_stand_in("people_pose", crowd(1))
    before = ask_stand_in.num_runs("pose_engine")
    with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
        ask_stand_in("people_pose", crowd(SLOW), timeout_s=0.3)
    time.sleep(1.5)
    assert ask_stand_in.num_runs("pose_engine") == before
    assert len(ask_stand_in("people_pose", crowd(2))["keypoints"]) == 2


def test_what_an_engine_says_instead_of_a_result_reaches_the_caller(ask_stand_in, crowd):
    with pytest.raises(InferenceServerException, match="so many people cannot be counted"):
        ask_stand_in("people_pose", crowd(UNCOUNTABLE))
    assert len(ask_stand_in("people_pose", crowd(1))["keypoints"]) == 1


def test_that_an_engine_is_busy_is_told_as_such(ask_stand_in, crowd):
    def status(_call):
        try:
            ask_stand_in("people_pose", crowd(SLOW))
        except InferenceServerException as error:
            return error.status(), error.message()
        return "OK", ""

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(status, range(4)))
    statuses = {code for code, _ in answers}
    assert statuses == {"OK", "StatusCode.UNAVAILABLE"}
    assert any("Exceeds maximum queue size" in message for _, message in answers)


def test_a_request_without_its_image_gets_a_sentence(ask, people):
    with pytest.raises(InferenceServerException, match="image must be sent") as caught:
        ask("people_pose", None, whole_image_if_nobody=np.array([True]))
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert len(ask("people_pose", people)["scores"]) == len(PORTRAITS)
