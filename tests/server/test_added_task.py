"""What it takes to add a family with a task: a recipe and a function in hue_task.py, and the result below."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import hue_task
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sapiens_client import ModelNotServedError, SapiensClient
from sapiens_client.connection.options import ClientOptions
from sapiens_client.results.base import Result
from sapiens_client.tasks.dense import dense_result
from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.recipes.lookup import FAMILIES
from sapiens_export.engines.torchscript import engine_from_torchscript
from sapiens_export.exporter import export_engine
from sapiens_export.networks.config import NetworkConfig
from sapiens_export.parity.pipeline import image_result
from sapiens_export.parity.verify import engine_folders, verifications
from sapiens_export.weights.sources import source_from_seed
from sapiens_server import serve

INPUT_HW = (64, 48)


@dataclass(frozen=True, eq=False, kw_only=True)
class HueResult(Result):
    hue: NDArray[np.float32] = field(repr=False)

    def plot(self):
        return Image.fromarray(((self.hue / np.pi + 1) * 127).astype(np.uint8))


class HueClient(SapiensClient):
    def hue(self, image):
        return self._ask(image, lambda call: dense_result(call, "hue", HueResult), {})


@pytest.fixture
def export(monkeypatch, tmp_path):
    """A function (task, number of outputs) that exports a tiny random network of the new family."""
    monkeypatch.setitem(FAMILIES, "rainbow", hue_task.RAINBOW)

    def exported(task, num_outputs):
        config = NetworkConfig("rainbow", task, 32, 2, 2, 0, INPUT_HW, 12, num_outputs)
        export_engine(source_from_seed(config, 0), tmp_path)
        # What the project gets is installed with it; this module must lie where the server's Python looks.
        shutil.copy(Path(hue_task.__file__), tmp_path / f"{task}_postprocess" / "1")
        return tmp_path

    return exported


def in_process(recipe, repository, image):
    engine = engine_from_torchscript(repository / recipe.engine.name / "1" / ENGINE_FILES["python"])
    (array,) = image_result(recipe, image, engine, recipe.settings(INPUT_HW, 4))
    return array


def client_with(server, output):
    return HueClient(server.grpc_url, options=ClientOptions(output=output))


def test_a_task_is_added_by_one_recipe_one_function_and_one_result(export, odd_images):
    repository, image = export("hue", 2), odd_images["portrait"]
    expected = in_process(hue_task.HUE, repository, image)
    assert np.ptp(expected) > 0
    with serve(repository, grpc_port=0) as server:
        for output in ("image", "network"):
            with client_with(server, output) as client:
                result = client.hue(image)
                assert (result.model.family, result.model.task) == ("rainbow", "hue")
                np.testing.assert_allclose(result.hue, expected, atol=1e-5)
                assert "hue" in client.models()
    (outcome,) = verifications(engine_folders(repository), "cpu")
    assert outcome.is_passed, outcome


def test_a_family_finishes_a_task_in_its_own_way(export, odd_images, monkeypatch):
    repository, image = export("depth", 1), odd_images["portrait"]
    expected = in_process(hue_task.DEPTH, repository, image)
    with serve(repository, grpc_port=0) as server:
        for output in ("image", "network"):
            with client_with(server, output) as client:
                np.testing.assert_allclose(client.depth(image).depth, expected, atol=1e-5)
        monkeypatch.delitem(FAMILIES, "rainbow")  # as for a client of an earlier release
        with client_with(server, "auto") as client:
            np.testing.assert_allclose(client.depth(image).depth, expected, atol=1e-5)
        with client_with(server, "network") as client, pytest.raises(ModelNotServedError) as caught:
            client.depth(image)
    assert "family must be one of ['sapiens', 'sapiens2'], got 'rainbow'" in str(caught.value)
    assert "output='image'" in str(caught.value)
