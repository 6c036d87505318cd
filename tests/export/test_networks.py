import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sapiens_core.recipes.lookup import first_recipe, first_recipes
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS, SAPIENS
from sapiens_export.engines.reduced import ServedNetwork
from sapiens_export.networks.config import NetworkConfig, released_network
from sapiens_export.networks.sapiens import SapiensNetwork, resized_positions
from sapiens_export.weights.checkpoints import network_from_weights

REFERENCE_ENTRIES = {"pose": 301, "seg": 304, "normal": 304, "depth": 303}
NETWORKS = ["depth", "normal", "seg", "pose17", "pose308", "pretrain"]


@pytest.fixture(scope="module")
def network_named(golden_networks, golden_folder):
    def build(name):
        weights = load_file(golden_folder / f"net_{name}.safetensors")
        return network_from_weights(golden_networks[name], weights, name)

    return build


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("suffix", ["", "_other_size"], ids=["trained size", "resized positions"])
def test_outputs_equal_the_reference(suffix, name, network_named, golden):
    vectors = golden(f"net_{name}")
    if suffix and f"input{suffix}" not in vectors:
        suffix = ""
    with torch.inference_mode():
        output = network_named(name)(torch.from_numpy(vectors[f"input{suffix}"]))
    np.testing.assert_allclose(output, vectors[f"output{suffix}"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_intermediate_features_equal_the_reference(name, network_named, golden):
    vectors, network, blocks = golden(f"net_{name}"), network_named(name), []
    network.backbone.layers[0].register_forward_hook(lambda _module, _inputs, output: blocks.append(output))
    with torch.inference_mode():
        features = network.backbone(torch.from_numpy(vectors["input"]))
    np.testing.assert_allclose(blocks[0], vectors["block0_output"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(features, vectors["backbone_features"], rtol=0, atol=1e-4)


def test_the_class_token_goes_through_all_blocks(network_named, golden):
    vectors, network, tokens = golden("net_pretrain"), network_named("pretrain"), []
    network.backbone.ln1.register_forward_hook(lambda _module, _inputs, output: tokens.append(output))
    with torch.inference_mode():
        network(torch.from_numpy(vectors["input"]))
    np.testing.assert_allclose(tokens[0], vectors["raw_tokens"], rtol=0, atol=1e-4)


def test_every_layer_norm_adds_a_millionth_to_the_variance_like_the_reference(network_named):
    norms = [module for module in network_named("depth").modules() if isinstance(module, torch.nn.LayerNorm)]
    for norm in norms:
        tokens = torch.tensor([-1e-3, 1e-3]).repeat(norm.normalized_shape[0] // 2)
        plain = (norm(tokens) - norm.bias) / norm.weight
        np.testing.assert_allclose(plain.abs().detach(), 0.5**0.5, rtol=1e-3)  # of variance 1e-6
    assert len(norms) == 2 * len(network_named("depth").backbone.layers) + 1


def test_pretrained_positions_are_resized_for_a_task_like_in_the_reference(golden, golden_folder):
    positions = load_file(golden_folder / "net_pretrain.safetensors")["backbone.pos_embed"]
    resized = resized_positions(positions[:, 1:], (4, 4), (4, 3))
    np.testing.assert_allclose(resized, golden("net_pretrain")["finetune_pos_embed"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["depth", "normal", "seg", "pose17"])
def test_bfloat16_stays_within_the_stated_share_of_the_spread(name, network_named, golden):
    vectors = golden(f"net_{name}")
    expected = vectors["output"]
    with torch.inference_mode():
        output = network_named(name).bfloat16()(torch.from_numpy(vectors["input"]).bfloat16()).float().numpy()
    assert np.abs(output - expected).mean() < 0.03 * expected.std()
    assert np.abs(output - expected).max() < 0.6 * expected.std()


@pytest.mark.parametrize("size", ["0.3b", "2b"])
@pytest.mark.parametrize("task", REFERENCE_ENTRIES)
def test_released_networks_have_the_published_number_of_entries(task, size):
    with torch.device("meta"):
        network = SapiensNetwork(released_network(Task(task), size))
    more_layers = network.config.num_layers - 24
    assert len(network.state_dict()) == REFERENCE_ENTRIES[task] + 12 * more_layers


@pytest.mark.parametrize(
    ("task", "labels", "padding"),
    [("pose", "coco", 2), ("normal", "", 2), ("seg", "goliath", 0), ("seg", "lip", 2), ("depth", "", 0)],
)
def test_patches_are_padded_as_the_task_wants(task, labels, padding):
    variant = next(variant for variant in first_recipes()[Task(task)].variants if variant.labels == labels)
    assert released_network(Task(task), "1b", variant=variant).patch_padding == padding


@pytest.mark.parametrize("preprocess", ["full", "lite"])
@pytest.mark.parametrize("case", range(4))
def test_the_first_layer_normalises_like_the_reference(case, preprocess, golden):
    vectors = golden("dense_preprocess")
    pixels = torch.from_numpy(vectors[f"c{case}_resized_rgb_chw"].transpose(1, 2, 0).copy())[None]
    tensor = ServedNetwork(torch.nn.Identity(), NORMALIZATIONS[preprocess], first_recipe(Task.DEPTH))(pixels)
    np.testing.assert_allclose(tensor[0], vectors[f"c{case}_{preprocess}_tensor"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("task", SAPIENS.recipes)
def test_released_networks_are_recognised_as_such(task):
    for variant in first_recipe(task).variants:
        assert released_network(task, "1b", variant=variant).size == "1b"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "multiple of num_heads, got 32 and 3"),
        ({"input_hw": (60, 48)}, r"multiples of 16 up to 8192, got \(60, 48\)"),
        ({"num_layers": 0}, r"positive, got \{'num_layers': 0\}"),
        ({"family": "sapiens9"}, "got 'sapiens9'"),
    ],
    ids=["heads", "size", "layers", "family"],
)
def test_what_cannot_be_built_is_refused(change, message, tiny_network):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**{**vars(tiny_network), **change})
