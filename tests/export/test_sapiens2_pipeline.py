"""From an image to a result in this process, against what the second family's reference makes of it."""

import numpy as np
import pytest

from sapiens_core.recipes.lookup import recipe
from sapiens_export.engines.engine import engine_from_network
from sapiens_export.engines.reduced import ServedNetwork
from sapiens_export.parity.pipeline import image_result

# Mean differences: the reference rounds positions to bfloat16, which the networks here do not.
GAPS = {"normal": 0.02, "pointmap": 0.03, "albedo": 1.0, "matting": 3e-3}


@pytest.fixture(scope="module")
def results(sapiens2_networks, encode):
    """A function (task, RGB image) -> what the ensemble of the reference's tiny network would return."""

    def of(task, image):
        own, network = recipe("sapiens2", task), sapiens2_networks[task]
        module = ServedNetwork(network, own.preparation("full").normalization, own).eval()
        settings = own.settings(network.config.input_hw, 1)
        found = image_result(own, encode(image), engine_from_network(module), settings)
        return dict(zip([tensor.name for tensor in own.postprocess.outputs], found, strict=True))

    return of


@pytest.mark.parametrize("image", ["e2e_land", "e2e_port"])
def test_results_are_the_references_but_for_its_rounded_positions(image, results, golden2):
    vectors = golden2("postprocess")
    picture = np.ascontiguousarray(vectors[f"img_{image}"][..., ::-1])
    expected = {
        "normal": ("normals", vectors[f"e2e_normal_{image}"]),
        "pointmap": ("points", vectors[f"e2e_depth_f16_{image}"]),
        "albedo": ("albedo", vectors[f"e2e_albedo_png_bgr_{image}"][..., ::-1]),
        "matting": ("alpha", vectors[f"e2e_matting_alpha_{image}"]),
    }
    for task, (name, wanted) in expected.items():
        found = results(task, picture)[name].astype(float)
        found = found[..., 2] if task == "pointmap" else found
        gap = np.abs(found - wanted).mean()
        assert gap < GAPS[task], (task, gap)
    classes = results("seg", picture)["class_map"]
    assert (classes != vectors[f"e2e_seg_{image}"]).mean() < 0.03
