"""The second family's networks with positions rounded as in the reference: nothing else differs from it."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from rounded_positions import angles, periods, round_positions
from safetensors.torch import load_file
from transformers.models.sapiens2.modeling_sapiens2 import Sapiens2RopePositionEmbedding

from sapiens_core.finish.detect import suppressed
from sapiens_core.labels import keypoint_set
from sapiens_core.people import person_keypoints
from sapiens_core.recipes.lookup import recipe
from sapiens_export.engines.engine import engine_from_network
from sapiens_export.engines.reduced import ServedNetwork
from sapiens_export.networks.sapiens2 import transformers_config
from sapiens_export.parity.pipeline import image_result

OUTPUTS = {
    "pose": "heatmaps",
    "seg": "logits",
    "normal": "normal_raw",
    "pointmap": "pointmap",
    "matting": "matting",
    "albedo": "albedo_raw",
}
# Mean and largest error, as tests/golden/sapiens2/README.md allows: a rounding of queries that goes the other
# way after another product moves outputs by 0.01.
ALLOWED = defaultdict(lambda: (2e-3, 5e-2), matting=(5e-4, 1.5e-2))
MAX_ERROR = 2e-4
MEAN_GAPS = {"normal": 2e-3, "pointmap": 2e-3, "albedo": 0.3, "matting": 5e-4}
GRIDS = [
    (64, (64, 48)),
    (64, (4, 3)),
    (64, (16, 12)),
    (80, (64, 48)),
    (80, (4, 3)),
    (76, (64, 48)),
    (76, (4, 3)),
]


@pytest.fixture
def rounded(monkeypatch):
    round_positions(monkeypatch)


@pytest.fixture
def vectors(golden2_folder):
    return lambda task: load_file(golden2_folder / f"net_io_{task}.safetensors")


@pytest.fixture(scope="module")
def tables(golden2_folder):
    return load_file(golden2_folder / "rope_tables.safetensors")


@pytest.mark.parametrize(("head_dim", "grid"), GRIDS)
def test_positions_are_those_of_the_reference(head_dim, grid, tables, sapiens2_config):
    config = transformers_config(sapiens2_config("features"))
    config.hidden_size, config.num_attention_heads = head_dim, 1
    positions = Sapiens2RopePositionEmbedding(config).eval()  # training shifts and scales them
    images = torch.zeros(1, 3, *(16 * side for side in grid))
    for function, found in zip(("cos", "sin"), positions(images), strict=True):
        found, quarter = found.unflatten(0, grid), head_dim // 4
        assert torch.equal(found[..., : 2 * quarter], found[..., 2 * quarter :])
        for side, name, own in (
            (0, "rows", found[:, 0, :quarter]),
            (1, "cols", found[0, :, quarter : 2 * quarter]),
        ):
            key = f"hd{head_dim}_{grid[0]}x{grid[1]}_{{}}_{function}_{name}"
            np.testing.assert_allclose(own, tables[key.format("fp32")], rtol=0, atol=1e-6)
            rounded = getattr(angles(grid[side], head_dim), function)()
            assert torch.equal(rounded.float(), tables[key.format("bf16")].float())
    assert torch.equal(periods(head_dim).float(), tables[f"hd{head_dim}_bf16_periods"].float())


@pytest.mark.usefixtures("rounded")
@pytest.mark.parametrize("task", OUTPUTS)
def test_outputs_equal_the_reference(task, sapiens2_networks, vectors):
    expected = vectors(task)
    with torch.no_grad():
        outputs = sapiens2_networks[task](expected["input"])
    if task == "pointmap":
        outputs, scale = outputs
        assert (scale - expected["scale"]).abs() < ALLOWED[task][1]
    gap = (outputs - expected[OUTPUTS[task]]).abs()
    assert (gap.mean() < ALLOWED[task][0], gap.max() < ALLOWED[task][1]) == (True, True), (
        gap.mean(),
        gap.max(),
    )


@pytest.mark.parametrize("task", OUTPUTS)
def test_a_head_alone_equals_the_reference(task, sapiens2_networks, vectors):
    expected, network = vectors(task), sapiens2_networks[task]
    head = network.albedo or network.model.decode_head
    with torch.no_grad():
        outputs = head(expected["backbone_featmap"])
        if task == "pointmap":
            scale = network.model.scale_head(expected["backbone_featmap"])
            np.testing.assert_allclose(scale, expected["scale"], rtol=0, atol=MAX_ERROR)
    outputs = outputs.sigmoid() if task == "matting" else outputs
    np.testing.assert_allclose(outputs, expected[OUTPUTS[task]], rtol=0, atol=MAX_ERROR)


@pytest.mark.usefixtures("rounded")
def test_every_kind_of_block_equals_the_reference(sapiens2_networks, vectors):
    """Also those whose heads share keys, 8 and 9."""
    expected, network = vectors("normal"), sapiens2_networks["normal"]
    layers = next(part for name, part in network.named_modules() if name.endswith("model.layer"))
    tokens = {}
    before = layers[0].register_forward_pre_hook(lambda _layer, given: tokens.update(before=given[0]))
    after = [
        layers[number].register_forward_hook(lambda layer, _given, made: tokens.update({layer: made}))
        for number in (0, 7, 8, 9, 17)
    ]
    with torch.no_grad():
        network(expected["input"])
    for hook in (before, *after):
        hook.remove()
    np.testing.assert_allclose(tokens["before"], expected["hidden_before_block_00"], rtol=0, atol=MAX_ERROR)
    for number in (0, 7, 8, 9, 17):
        gap = (tokens[layers[number]] - expected[f"hidden_after_block_{number:02}"]).abs()
        assert gap.mean() < 2e-3, (number, gap.mean())


@pytest.mark.usefixtures("rounded")
@pytest.mark.parametrize("image", ["e2e_land", "e2e_port"])
def test_results_equal_the_reference(image, sapiens2_networks, golden2, encode):
    reference = golden2("postprocess")
    file = encode(np.ascontiguousarray(reference[f"img_{image}"][..., ::-1]))

    def result(task):
        own, network = recipe("sapiens2", task), sapiens2_networks[task]
        module = ServedNetwork(network, own.preparation("full").normalization, own).eval()
        settings = own.settings(network.config.input_hw, 1)
        return image_result(own, file, engine_from_network(module), settings)[0].astype(float)

    expected = {
        "normal": reference[f"e2e_normal_{image}"],
        "pointmap": reference[f"e2e_depth_f16_{image}"],
        "albedo": reference[f"e2e_albedo_png_bgr_{image}"][..., ::-1],
        "matting": reference[f"e2e_matting_alpha_{image}"],
    }
    for task, wanted in expected.items():
        found = result(task)
        gap = np.abs((found[..., 2] if task == "pointmap" else found) - wanted).mean()
        assert gap < MEAN_GAPS[task], (task, gap)
    assert (result("seg") != reference[f"e2e_seg_{image}"]).mean() < 0.01


@pytest.mark.usefixtures("rounded")
@pytest.mark.parametrize("case", ["multi", "none"])
def test_persons_equal_the_reference(case, sapiens2_networks, golden2):
    reference = golden2("postprocess")
    bboxes, scores, labels = (reference[f"pose_det_{case}_{name}"] for name in ("bboxes", "scores", "labels"))
    is_person = (scores > 0.3) & (labels == 0)
    found = bboxes[is_person][suppressed(bboxes[is_person], scores[is_person], max_overlap=0.3)]
    kept = reference[f"pose_{case}_kept_bboxes"]
    if case == "multi":
        np.testing.assert_array_equal(found, kept)
    else:  # nobody: the reference takes the whole image
        assert len(found) == 0
    own, network = recipe("sapiens2", "pose"), sapiens2_networks["pose"]
    module = ServedNetwork(
        network,
        own.preparation("full").normalization,
        own,
        flip_indices=keypoint_set("goliath").flip_indices,
    ).eval()
    image = np.ascontiguousarray(reference["img_e2e_land"])
    settings = own.settings(network.config.input_hw, 4)
    keypoints, confidences = person_keypoints(image, kept, engine_from_network(module), settings)
    gap = np.abs(confidences - reference[f"pose_{case}_scores"])
    assert gap.mean() < 2e-3, gap.mean()
    assert gap.max() < 5e-2, gap.max()
    # Random heatmaps are flat in places, where any rounding moves a peak.
    assert np.median(np.abs(keypoints - reference[f"pose_{case}_keypoints"])) < 1e-3
