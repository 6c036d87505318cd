from __future__ import annotations

import grpc
import numpy as np
import pytest

from sapiens_client import (
    AuthenticationError,
    ClientOptions,
    ImageNotFoundError,
    InferenceError,
    InvalidInputError,
    ModelNotServedError,
    RequestTimeoutError,
    SapiensClient,
    ServerUnavailableError,
)
from sapiens_client.deadline import Deadline
from sapiens_client.testing import FakeServer


def test_several_tasks_answer_as_each_alone(client, photo, encode):
    encoded = encode(photo)
    tasks = ("seg", "features", "depth", "normal", "people", "detect")
    analysis = client.analyze(encoded, tasks=tasks)
    assert (tuple(analysis), analysis.failed) == (tasks, {})
    for task in tasks:
        together, alone = getattr(analysis, task), getattr(client, task)(encoded)
        assert (type(together), together.model) == (type(alone), alone.model)
        for name, array in alone.arrays().items():
            np.testing.assert_array_equal(together.arrays()[name], array)


def test_dense_tasks_share_one_request(client, photo):
    analysis = client.analyze(photo, tasks=["depth", "features", "seg"])
    shared, alone = analysis.depth.timing, analysis.features.timing
    assert shared.request_s == analysis.seg.timing.request_s != alone.request_s
    assert shared.response_bytes > analysis.depth.depth.nbytes + analysis.seg.class_map.nbytes
    assert shared.response_bytes < 2 * analysis.depth.depth.nbytes  # normals were not asked for


def test_the_default_is_what_one_ensemble_answers(client, photo):
    analysis = client.analyze(photo)
    assert tuple(analysis) == ("depth", "normal", "seg")
    assert analysis["seg"] is analysis.seg
    assert analysis.seg.classes[2] == "Face_Neck"


def test_without_that_ensemble_each_task_is_a_request(pose_client, photo):
    analysis = pose_client.analyze(photo, tasks=("depth", "seg", "pose"))
    assert analysis.failed.keys() == {"depth", "seg"}
    assert analysis.pose.keypoints.shape == (1, 17, 2)


def test_a_failing_task_is_reported_in_its_place(client, failing_image):
    analysis = client.analyze(failing_image, tasks=("depth", "normal", "pose", "detect"))
    kinds = {task: type(error) for task, error in analysis.failed.items()}
    assert kinds == {"depth": InferenceError, "pose": ModelNotServedError}
    assert (tuple(analysis), len(analysis)) == (("normal", "detect"), 2)
    assert {type(task) for task in (*analysis, *analysis.failed, *analysis.answers)} == {str}
    assert ("depth" in analysis, "normal" in analysis) == (False, True)
    assert analysis.normal.normals.shape == (1, 3, 3)
    assert analysis.detect.bboxes.shape == (0, 4)
    for ask in (lambda: analysis.depth, lambda: analysis["depth"], lambda: analysis.get("depth")):
        with pytest.raises(InferenceError, match=r"'depth'.*fell over"):
            ask()


def test_when_the_joint_ensemble_fails_its_tasks_are_asked_alone(client, apart_image):
    analysis = client.analyze(apart_image, tasks=("normal", "depth"))
    assert analysis.failed == {}
    assert analysis.normal.timing.request_s != analysis.depth.timing.request_s


def test_tasks_run_at_the_same_time_within_one_deadline(client, slow_image):
    analysis = client.analyze(slow_image, tasks=("depth", "detect", "people"), timeout_s=1)
    assert isinstance(analysis.failed["depth"], RequestTimeoutError)
    assert analysis.failed.keys() == {"depth"}  # one after another, no time would be left for the others


def test_without_a_server_the_whole_call_says_so(dead_url, photo):
    with SapiensClient(dead_url) as client, pytest.raises(ServerUnavailableError, match=dead_url):
        client.analyze(photo)


def test_without_a_server_its_patience_is_spent_once(dead_url, photo, caplog):
    caplog.set_level("INFO", "sapiens_client")
    options = ClientOptions(patience_s=0.5)
    with SapiensClient(dead_url, options=options) as client, pytest.raises(ServerUnavailableError):
        client.analyze(photo, ("depth", "seg", "pose"))
    assert {record.args[2] for record in caplog.records} == {"human"}


@pytest.mark.parametrize("tasks", [("depth", "seg", "pose"), "pose"])
def test_a_wrong_token_is_an_error_of_the_whole_call(tasks, photo):
    with FakeServer() as server, SapiensClient(server.url, token="wrong") as client:
        server.require("Bearer right")
        with pytest.raises(AuthenticationError, match="not the right one"):
            client.analyze(photo, tasks)


@pytest.mark.parametrize("method", ["ModelConfig", "ModelInfer"])
def test_what_befalls_the_question_how_to_ask_is_not_swallowed(method, photo):
    options = ClientOptions(output="network")
    with FakeServer() as server, SapiensClient(server.url, options=options) as client:
        client.analyze(photo, "depth")
        server.fail(grpc.StatusCode.PERMISSION_DENIED, times=None, method=method)
        with pytest.raises(AuthenticationError):
            client.analyze(photo)


def test_what_befalls_the_question_which_way_is_lighter_ends_the_call(photo):
    options = ClientOptions(output="network")
    with FakeServer() as server, SapiensClient(server.url, options=options) as client:
        client._transport.run(client._session.served_model("human", Deadline.after(60)))
        server.fail(grpc.StatusCode.PERMISSION_DENIED, times=None, method="ModelConfig")
        with pytest.raises(AuthenticationError):
            client.analyze(photo)
        assert [request.model for request in server.requests] == ["human", "depth"]


def test_bytes_that_are_no_image_are_an_error_of_the_whole_call(client):
    with pytest.raises(InvalidInputError, match="image must be a JPEG"):
        client.analyze(b"no image", ("depth", "detect"))


def test_tasks_that_are_not_served_fail_each_on_its_own(pose_client, photo):
    analysis = pose_client.analyze(photo, ("depth", "seg"))
    assert [type(error) for error in analysis.failed.values()] == [ModelNotServedError] * 2
    assert not analysis


@pytest.mark.parametrize("tasks", ["depht", ["depth", "shadow"], [], (), 3, [["depth"]], [None]])
def test_a_task_that_does_not_exist_is_refused(client, photo, tasks):
    with pytest.raises(InvalidInputError, match=r"tasks must be some of .*'depth'.*'people'.*got"):
        client.analyze(photo, tasks=tasks)


def test_one_task_may_be_named_and_asked_for_twice(client, photo):
    assert tuple(client.analyze(photo, tasks="depth")) == ("depth",)
    assert tuple(client.analyze(photo, tasks=("depth", "depth"))) == ("depth",)


def test_a_task_that_was_not_asked_for_has_no_result(client, photo):
    with pytest.raises(InvalidInputError, match=r"'seg' must be .* got \['depth'\]"):
        _ = client.analyze(photo, tasks=["depth"]).seg
    with pytest.raises(InvalidInputError, match=r"'seg' must be .* got \['depth'\]"):
        _ = client.analyze(photo, tasks=["depth"])["seg"]
    assert client.analyze(photo, tasks=["depth"]).get("seg") is None


def test_an_image_that_cannot_be_read_is_everybodys_error(client):
    with pytest.raises(ImageNotFoundError, match=r"missing\.jpg"):
        client.analyze("missing.jpg")


def test_classes_tell_depth_and_normals_where_the_person_is(client, photo):
    with_classes, without = client.analyze(photo), client.analyze(photo, tasks=("depth", "normal"))
    for task in ("depth", "normal"):
        masked, whole = with_classes[task], without[task]
        foreground = with_classes.seg.foreground
        assert 0 < np.count_nonzero(foreground) < foreground.size
        np.testing.assert_array_equal(masked.foreground, foreground)
        np.testing.assert_array_equal(masked.plot(), whole.plot(foreground))
        assert whole.foreground is None
        assert np.any(np.asarray(whole.plot()) != np.asarray(masked.plot()))
        for name, array in whole.arrays().items():
            np.testing.assert_array_equal(masked.arrays()[name], array)
    np.testing.assert_array_equal(  # arrays do not hang on what else was asked
        with_classes.depth.normal_from_depth(), without.depth.normal_from_depth()
    )
