"""What it takes to add a family with a task: a recipe and a function in hue_task.py, and the result below."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import hue_task
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sapiens_client import SapiensClient
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
        return self._ask(image, None, lambda call: dense_result(call, "hue", HueResult))


@pytest.fixture
def repository(monkeypatch, tmp_path):
    """A tiny network of the new family, exported with random weights."""
    monkeypatch.setitem(FAMILIES, "rainbow", hue_task.RAINBOW)
    config = NetworkConfig("rainbow", "hue", 32, 2, 2, 0, INPUT_HW, 12, 2)
    export_engine(source_from_seed(config, 0), tmp_path)
    # What the project itself gets is installed with it; this module must lie where the server's Python looks.
    shutil.copy(Path(hue_task.__file__), tmp_path / "hue_postprocess" / "1")
    return tmp_path


def test_a_task_is_added_by_one_recipe_one_function_and_one_result(repository, odd_images):
    engine = engine_from_torchscript(repository / "hue_engine" / "1" / ENGINE_FILES["python"])
    image = odd_images["portrait"]
    (expected,) = image_result(hue_task.HUE, image, engine, hue_task.HUE.settings(INPUT_HW, 4))
    assert np.ptp(expected) > 0
    with serve(repository, grpc_port=0) as server:
        for output in ("image", "network"):
            with HueClient(server.grpc_url, options=ClientOptions(output=output)) as client:
                result = client.hue(image)
                assert (result.model.family, result.model.task) == ("rainbow", "hue")
                np.testing.assert_allclose(result.hue, expected, atol=1e-5)
                assert "hue" in client.models()
    (outcome,) = verifications(engine_folders(repository), "cpu")
    assert outcome.is_passed, outcome
