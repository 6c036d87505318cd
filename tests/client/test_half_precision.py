"""Results as float16: half the bytes, to within the error that `CallOptions` states."""

import asyncio

import numpy as np
import pytest
from typer.testing import CliRunner

from sapiens_client import AsyncSapiensClient, ClientOptions, InvalidInputError, SapiensClient
from sapiens_client.cli.main import app_with
from sapiens_client.results.base import Result
from sapiens_client.testing import FakeServer, service
from sapiens_core.images.opencv import float16_of

HALVES = {
    "depth": {"depth"},
    "normal": {"normals"},
    "pointmap": {"points"},
    "matting": {"alpha", "foreground"},
    "seg": set(),
    "features": set(),
}


@pytest.fixture(scope="module")
def server():
    with FakeServer() as server:
        yield server


@pytest.fixture(scope="module", params=["image", "network"])
def client(request, server):
    with SapiensClient(server.url, options=ClientOptions(output=request.param)) as client:
        yield client


def arrays_of(result):
    return {**result.arrays(), **({"foreground": result.foreground} if hasattr(result, "alpha") else {})}


def assert_rounded(halves, values):
    assert halves.dtype == np.float16
    error = np.abs(halves.astype(np.float64) - values)
    assert (error <= np.maximum(np.abs(values) * 2.0**-11, 2.0**-25)).all()


@pytest.mark.parametrize("task", HALVES)
def test_a_result_is_within_the_stated_error_of_the_usual_one(task, client, photo):
    ask = getattr(client, task)
    halved, usual = (arrays_of(ask(photo, dtype=dtype)) for dtype in ("float16", "float32"))
    for name, values in usual.items():
        if name in HALVES[task]:
            assert_rounded(halved[name], values)
            assert not halved[name].flags.writeable
        else:
            np.testing.assert_array_equal(halved[name], values)
            assert halved[name].dtype == values.dtype


def test_half_the_bytes_travel_where_the_server_finishes(server, photo):
    with SapiensClient(server.url, options=ClientOptions(output="image", shared_memory=False)) as client:
        usual = client.normal(photo).timing.response_bytes
        assert client.with_options(dtype="float16").normal(photo).timing.response_bytes < 0.51 * usual


def test_several_tasks_at_once_come_in_half_precision_too(client, photo):
    analysis = client.analyze(photo, ["depth", "normal", "seg"], dtype="float16")
    assert (analysis.depth.depth.dtype, analysis.normal.normals.dtype) == (np.float16, np.float16)
    assert analysis.seg.class_map.dtype == np.uint8


def test_the_client_for_event_loops_has_it_too(server, photo):
    async def ask():
        async with AsyncSapiensClient(server.url) as client:
            return await client.depth(photo, dtype="float16")

    assert asyncio.run(ask()).depth.dtype == np.float16


def test_a_server_of_an_earlier_release_is_rounded_here(client, photo, monkeypatch):
    monkeypatch.setattr(service, "halved", lambda _request, _model, arrays: arrays)
    usual, rounded = client.depth(photo), client.depth(photo, dtype="float16")
    np.testing.assert_array_equal(rounded.depth, float16_of(usual.depth))


@pytest.mark.parametrize("task", [task for task, names in HALVES.items() if names])
def test_everything_that_a_result_does_it_does_in_half_precision(task, client, photo, tmp_path):
    result = getattr(client, task)(photo, dtype="float16")
    for form in result.writers:
        (file, *_) = result.save(tmp_path / f"photo{form.suffix}")
        assert file.stat().st_size > 0
    again = Result.load(tmp_path / "photo.npz")
    for name, values in result.arrays().items():
        np.testing.assert_array_equal(getattr(again, name), values)
        assert getattr(again, name).dtype == values.dtype


def test_depth_in_half_precision_becomes_normals_metres_and_points(client, photo):
    result = client.depth(photo, dtype="float16")
    assert result.normal_from_depth().dtype == np.float32
    depth = result.depth.astype(np.float32)
    metric = result.align_to(1 / (2 - depth / np.abs(depth).max()))
    assert metric.depth.dtype == np.float32
    camera = [[100, 0, 10], [0, 100, 10], [0, 0, 1]]
    assert metric.to_points(camera).points.dtype == np.float32


def test_a_type_that_there_is_not_is_refused(client, photo):
    with pytest.raises(InvalidInputError, match=r"dtype must be one of .* got 'float64'"):
        client.depth(photo, dtype="float64")


def test_the_command_saves_arrays_of_half_the_size(server, photo, encode, tmp_path):
    image, out = tmp_path / "photo.png", tmp_path / "out"
    image.write_bytes(encode(photo))
    words = [
        "normal",
        str(image),
        "--url",
        server.url,
        "-o",
        str(out),
        "--format",
        "npy",
        "--dtype",
        "float16",
    ]
    done = CliRunner().invoke(app_with(["normal"]), words)
    assert done.exit_code == 0, done.output
    assert np.load(out / "photo.png_normal.npy").dtype == np.float16


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 3), (1, 1)])
def test_rounding_is_to_the_nearest(shape):
    values = np.random.default_rng(0).normal(scale=1000, size=shape).astype(np.float32)
    np.testing.assert_array_equal(float16_of(values), values.astype(np.float16))
    extremes = np.array([[0, -0.0, 1e-8, 65504, 65535, -1e9, np.inf, np.nan]], np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(float16_of(extremes), extremes.astype(np.float16))
