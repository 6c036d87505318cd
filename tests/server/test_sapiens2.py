"""The second family behind the real server: every task, beside the first family, and in `human`."""

from dataclasses import replace

import numpy as np
import pytest
import tritonclient.grpc as triton
from real_servers import running

from sapiens_client import SapiensClient
from sapiens_client.connection.options import ClientOptions
from sapiens_client.tasks.dense import dense_result, dense_results
from sapiens_client.testing import FakeServer
from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.tensors import IMAGE_HW
from sapiens_core.people import person_keypoints
from sapiens_core.recipes.lookup import recipe
from sapiens_core.recipes.sapiens2 import SAPIENS2
from sapiens_export.engines.torchscript import engine_from_torchscript
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.parity.pipeline import image_result
from sapiens_export.repository.serving import Serving
from sapiens_export.weights.sources import source_from_seed

DENSE = ("normal", "seg", "pointmap", "matting", "albedo", "features")
INPUT_HW = (192, 144)  # of all, since they share a preprocessor; a pointmap's scale needs some cells
ONE_PROCESS = Serving(cpu_instances=1)


@pytest.fixture(scope="module")
def repository(sapiens2_config, windowed_config, golden_networks, tmp_path_factory):
    """All tasks of the second family, and by name features of windows and the first family's segmentation."""
    folder = tmp_path_factory.mktemp("sapiens2") / "models"
    for seed, task in enumerate(SAPIENS2.recipes):
        config = replace(sapiens2_config(task), num_hidden_layers=2, input_hw=INPUT_HW)
        export_engine(source_from_seed(config, seed), folder, serving=ONE_PROCESS)
    export_engine(source_from_seed(golden_networks["seg"], 0), folder, EngineOptions(name="v1"))
    windows = EngineOptions(name="windows")
    export_engine(source_from_seed(windowed_config, 0), folder, windows, serving=ONE_PROCESS)
    return folder


@pytest.fixture(scope="module")
def server(repository):
    with running(repository, grpc_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def engine_of(repository):
    return lambda task: engine_from_torchscript(repository / f"{task}_engine" / "1" / ENGINE_FILES["python"])


@pytest.fixture(scope="module", params=["image", "network"])
def client(request, server):
    with SapiensClient(server.grpc_url, options=ClientOptions(output=request.param)) as client:
        yield client


def served(client, task, image):
    """The arrays of a task by their names."""
    arrays = client._ask(image, lambda call: dense_result(call, task, dict), {})
    results = [tensor.name for tensor in recipe("sapiens2", task).outputs if tensor.name != IMAGE_HW.name]
    return {name: arrays[name] for name in results}


@pytest.mark.parametrize("image", ["portrait", "exif-rotated", "1x1"])
@pytest.mark.parametrize("task", DENSE)
def test_results_equal_those_in_one_process(task, image, client, engine_of, odd_images):
    own = recipe("sapiens2", task)
    settings = own.settings(INPUT_HW, 4)
    expected = image_result(own, odd_images[image], engine_of(task), settings)
    found = served(client, task, odd_images[image])
    for (name, array), wanted in zip(found.items(), expected, strict=True):
        wanted = wanted[0] if task == "features" else wanted
        assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype), name
        np.testing.assert_allclose(array.astype(float), wanted.astype(float), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("image", ["portrait", "1x1"])
def test_features_of_windows_equal_those_in_one_process(image, client, engine_of, odd_images):
    own = recipe("sapiens2", "features")
    settings = own.settings(INPUT_HW, 4)
    (expected,) = image_result(own, odd_images[image], engine_of("features_windows"), settings)
    result = client.features(odd_images[image], model="features_windows")
    assert result.features.shape == (48, 4, 3)  # a vector for 48 x 48 pixels
    np.testing.assert_allclose(result.features, expected[0], rtol=1e-4, atol=1e-5)


def test_an_engine_of_windows_takes_batches(server, engine_of):
    pixels = np.random.default_rng(0).integers(0, 256, (2, *INPUT_HW, 3), dtype=np.uint8)
    tensor = triton.InferInput("pixels", pixels.shape, "UINT8").set_data_from_numpy(pixels)
    with triton.InferenceServerClient(server.grpc_url) as client:
        found = client.infer("features_windows_engine", [tensor]).as_numpy("features")
    (expected,) = engine_of("features_windows")(pixels)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_keypoints_equal_those_in_one_process(client, engine_of, photo):
    bboxes = np.array([[5, 5, 80, 110], [20, 10, 40, 50], [-10, 30, 60, 160]], np.float32)
    own = recipe("sapiens2", "pose")
    settings = own.settings(INPUT_HW, 4)
    keypoints, scores = person_keypoints(photo[..., ::-1].copy(), bboxes, engine_of("pose"), settings)
    result = client.pose(photo, bboxes)
    assert result.model.family == "sapiens2"
    assert result.keypoint_set.name == "goliath"
    np.testing.assert_allclose(result.scores, scores, atol=1e-4)
    is_keypoint = scores > 0.3
    np.testing.assert_allclose(result.keypoints[is_keypoint], keypoints[is_keypoint], atol=0.05)


def test_both_families_are_served_side_by_side(server, photo):
    with SapiensClient(server.grpc_url) as client:
        new, old = client.seg(photo), client.seg(photo, model="seg_v1")
    assert (new.model.family, old.model.family) == ("sapiens2", "sapiens")
    assert "Eyeglass" in new.classes
    assert "Eyeglass" not in old.classes
    for result in (new, old):
        index = result.classes.index("Hair")
        np.testing.assert_array_equal(result.mask("Hair"), result.class_map == index)


def test_human_answers_three_tasks_at_once(server, odd_images):
    with SapiensClient(server.grpc_url, options=ClientOptions(output="image")) as client:
        tasks = {"pointmap": dict, "normal": dict, "seg": dict}
        together = client._ask(odd_images["portrait"], lambda call: dense_results(call, "human", tasks), {})
        for task in tasks:
            for name, array in served(client, task, odd_images["portrait"]).items():
                np.testing.assert_array_equal(together[task][name], array)


def test_an_analysis_asks_unless_told_what_human_answers(server, photo):
    with SapiensClient(server.grpc_url, options=ClientOptions(output="image")) as client:
        analysis = client.analyze(photo)
    assert tuple(analysis) == ("pointmap", "normal", "seg")
    assert len({result.timing.request_s for result in analysis.values()}) == 1


def test_networks_of_two_families_do_not_mix_in_human(repository, golden_networks):
    source = source_from_seed(golden_networks["normal"], 0)
    with pytest.raises(ValueError, match="normal would be of sapiens; give this one a --name"):
        export_engine(source, repository)


def test_the_fake_server_has_the_same_models(server):
    names = [task for task in SAPIENS2.recipes if task in ("pointmap", "matting", "albedo")]
    with FakeServer(models=names) as fake, SapiensClient(fake.url) as other:
        with SapiensClient(server.grpc_url) as client:
            real = client.models()
        cards = other.models()
        assert cards.keys() == set(names)
        for name in names:
            assert (cards[name].info.family, cards[name].info.task) == ("sapiens2", name)
            assert (real[name].info.family, real[name].info.task) == ("sapiens2", name)
