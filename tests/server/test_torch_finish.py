"""Results that torch makes as large as the image, behind the real server: the same as numpy's."""

import json

import numpy as np
import pytest
from real_servers import running

from sapiens_client import ClientOptions, InvalidInputError, SapiensClient
from sapiens_export.exporter import export_engine
from sapiens_export.repository.serving import Serving
from sapiens_export.weights.sources import source_from_seed

ARRAYS = {"depth": "depth", "normal": "normals", "seg": "class_map"}


@pytest.fixture(scope="module")
def repository(golden_networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finish") / "models"
    for task in ARRAYS:
        source = source_from_seed(golden_networks[task], 0)
        export_engine(source, folder, serving=Serving(finish="gpu", cpu_instances=1))
    return folder


@pytest.fixture(scope="module")
def server(repository):
    with running(repository, grpc_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def there(server):
    with SapiensClient(server.grpc_url, options=ClientOptions(output="image")) as client:
        yield client


@pytest.fixture(scope="module")
def here(server):
    """A client that finishes the same engines' outputs itself, by numpy."""
    with SapiensClient(server.grpc_url, options=ClientOptions(output="network")) as client:
        yield client


@pytest.mark.parametrize("task", ARRAYS)
@pytest.mark.parametrize("kind", ["portrait", "1x1"])
def test_what_torch_finishes_is_what_numpy_finishes(kind, task, there, here, odd_images):
    image, name = odd_images[kind], ARRAYS[task]
    found, wanted = (getattr(getattr(client, task)(image), name) for client in (there, here))
    assert found.dtype == wanted.dtype
    if task == "seg":
        np.testing.assert_array_equal(found, wanted)
    else:  # an untrained network's vectors may be short, and the direction of a short one is rounded more
        atol = 1e-5 if task == "normal" else 1e-6 * np.abs(wanted).max()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


def test_where_results_are_finished_is_recorded(repository):
    for task in ARRAYS:
        facts = json.loads((repository / f"{task}_engine" / "manifest.json").read_text())
        assert facts["serving"]["finish"] == "gpu"
        assert "torch_finish" in (repository / f"{task}_postprocess" / "1" / "model.py").read_text()


def test_an_image_that_cannot_be_used_still_gets_its_reason(there):
    with pytest.raises(InvalidInputError, match="image must be a JPEG"):
        there.depth(b"no image")
