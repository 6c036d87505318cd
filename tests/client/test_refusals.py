"""Whatever callers get wrong is an error of the tree that says what must hold, not one of a library below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sapiens_client import (
    TLS,
    ClientOptions,
    InvalidInputError,
    ModelNotServedError,
    PoseResult,
    SapiensClient,
    SegmentationResult,
)
from sapiens_client.testing import FakeServer


@pytest.fixture(scope="module")
def client() -> Iterator[SapiensClient]:
    with (
        FakeServer(models=("depth", "depth_2b", "seg", "pose")) as server,
        SapiensClient(server.url) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def seg(client, photo) -> SegmentationResult:
    return client.seg(photo)


@pytest.fixture(scope="module")
def pose(client, photo) -> PoseResult:
    return client.pose(photo)


NO_LABELS = [["Hair"], ("nose",), {"Hair"}, slice(1, 3), np.array([1, 2]), b"Hair"]


@pytest.mark.parametrize("label", [*NO_LABELS, None, 1.5, True, -1, 99, "hair"], ids=repr)
def test_labels_are_single_names_or_numbers(label, seg, pose):
    hint = "ask for one after the other$" if any(label is each for each in NO_LABELS) else ""
    with pytest.raises(InvalidInputError, match=f"^class must be one of the network's 28, .*{hint}"):
        seg.mask("Hair", label)
    with pytest.raises(InvalidInputError, match=f"^keypoint must be one of the network's 17, .*{hint}"):
        _ = pose.persons[0][label]


def test_numbers_of_numpy_are_labels_too(seg, pose):
    np.testing.assert_array_equal(seg.mask(np.int64(3)), seg.mask("Hair"))
    assert pose.persons[0][np.uint8(0)] == pose.persons[0]["nose"]


@pytest.mark.parametrize("ask", ["depth", "seg", "pose"])
def test_a_misspelt_model_is_told_what_is_served(ask, client, photo):
    with pytest.raises(
        ModelNotServedError, match=r"'depht_2b'.*; served are depth, depth_2b, pose, seg; perhaps 'depth_2b'$"
    ) as caught:
        getattr(client, ask)(photo, model="depht_2b")
    assert caught.value.url


def test_a_task_that_is_not_served_is_told_what_is(client, photo):
    with pytest.raises(ModelNotServedError, match="served are depth, depth_2b, pose, seg"):
        client.people(photo)


@pytest.mark.parametrize("model", [3, "", Path("depth"), ["depth"]], ids=repr)
def test_a_model_is_a_name(model, client, photo):
    with pytest.raises(InvalidInputError, match="model must be the name of an ensemble"):
        client.depth(photo, model=model)


@pytest.mark.parametrize(
    "url", ["https://me:secret@a.org/b.jpg", "file:///b.jpg", "s3://a/b.jpg", "data:image/png;base64,"]
)
def test_only_some_urls_are_images(url, client):
    with pytest.raises(InvalidInputError, match=r"http or https URL without a password, got .*; fetch it"):
        client.depth(url)


DRAWINGS: dict[str, Callable[[PoseResult], object]] = {
    "a set that is a number": lambda pose: pose.to(3),
    "a list of sets": lambda pose: pose.to(["coco"]),
    "a threshold that is none": lambda pose: pose.plot(threshold="high"),
    "a radius below 0": lambda pose: pose.plot(radius=-1),
    "lines of no width": lambda pose: pose.plot(thickness=0),
    "no path": lambda pose: pose.save(None),
}


@pytest.mark.parametrize("what", DRAWINGS)
def test_drawing_and_saving_refuse(what, pose):
    with pytest.raises(InvalidInputError):
        DRAWINGS[what](pose)


@pytest.mark.parametrize("foreground", [[[1, 2], [3]], "all", np.zeros((2, 2), bool)], ids=repr)
def test_a_foreground_is_an_array_like_the_image(foreground, client, photo):
    result = client.depth(photo)
    for use in (result.plot, result.normal_from_depth):
        with pytest.raises(InvalidInputError, match="foreground must be"):
            use(foreground)


@pytest.mark.parametrize(
    "name", ["x-bin", "te", "Content-Type", "host", "connection", "grpc-timeout", "x y", 1]
)
def test_headers_that_grpc_cannot_carry_are_refused(name):
    with pytest.raises(InvalidInputError, match="headers must be"):
        SapiensClient("localhost:8001", headers={name: "text"})


MISTAKES = {
    "headers": {"headers": [("a", "b")]},
    "options": {"options": {"max_attempts": 3}},
    "tls": {"tls": "yes"},
    "token": {"token": 3},
}


@pytest.mark.parametrize("what", MISTAKES)
def test_arguments_of_other_types_are_refused(what):
    with pytest.raises(InvalidInputError, match=f"{what} must be"):
        SapiensClient("localhost:8001", **MISTAKES[what])


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": "3"},
        {"max_attempts": 0},
        {"patience_s": "3"},
        {"keepalive_s": float("nan")},
        {"keepalive_timeout_s": float("inf")},
        {"resolve_every_s": 0},
        {"channel_options": (("a", "b", "c"),)},
        {"channel_options": (("a", 1.5),)},
    ],
    ids=repr,
)
def test_options_that_mean_nothing_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(InvalidInputError, match=f"{name} must be"):
        ClientOptions(**wrong)


@pytest.mark.parametrize("wrong", [{"root_certificates": 3}, {"server_name": 3}], ids=repr)
def test_certificates_of_other_types_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(InvalidInputError, match=f"{name} must be"):
        TLS(**wrong)


@pytest.mark.parametrize("name", ["x.png", "x.npz", "x.16.png", "x.npy"])
def test_a_missing_folder_is_named_and_not_the_draft(name, client, photo, tmp_path):
    result = client.depth(photo)
    with pytest.raises(FileNotFoundError, match="the folder must exist") as caught:
        result.save(tmp_path / "nope" / name)
    assert caught.value.filename == str(tmp_path / "nope")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="the folder must exist"):
        result.save(tmp_path / "file" / name)
    with pytest.raises(OSError, match="too long") as caught:
        result.save(tmp_path / ("x" * 300 + name))
    assert ".part" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["x.png", "x.npz", "x.16.png", "x.npy", "x.exr"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode(mode, name, client, photo, tmp_path):
    path = tmp_path / name
    path.touch()
    path.chmod(mode)
    client.depth(photo).save(path)
    assert path.stat().st_size > 0
    assert path.stat().st_mode & 0o777 == mode
