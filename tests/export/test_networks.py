import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sapiens_core.tasks import NORMALIZATIONS, Task
from sapiens_export.checkpoints import network_from_weights
from sapiens_export.networks.config import NetworkConfig, released_network
from sapiens_export.networks.sapiens import SapiensNetwork
from sapiens_export.served import ServedNetwork

# Counted on the reference classes: encoder and depth head, in parameters.
REFERENCE_PARAMETERS = {
    "0.3b": (306_244_608, 13.67e6),
    "0.6b": (634_597_120, 15.24e6),
    "1b": (1_139_163_648, 16.81e6),
    "2b": (2_131_943_040, 19.17e6),
}


@pytest.fixture(scope="module")
def network(golden_folder, tiny_network) -> SapiensNetwork:
    return network_from_weights(tiny_network, load_file(golden_folder / "net_depth.safetensors"), "golden")


@pytest.mark.parametrize("suffix", ["", "_other_size"], ids=["trained size", "resized positions"])
def test_outputs_equal_the_reference(suffix, network, golden):
    vectors = golden("net_depth")
    with torch.inference_mode():
        output = network(torch.from_numpy(vectors[f"input{suffix}"]))
    np.testing.assert_allclose(output, vectors[f"output{suffix}"], rtol=0, atol=1e-4)


def test_intermediate_features_equal_the_reference(network, golden):
    vectors = golden("net_depth")
    blocks = []
    hook = network.backbone.layers[0].register_forward_hook(
        lambda _module, _inputs, output: blocks.append(output)
    )
    with torch.inference_mode():
        features = network.backbone(torch.from_numpy(vectors["input"]))
    hook.remove()
    np.testing.assert_allclose(blocks[0], vectors["block0_output"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(features, vectors["backbone_features"], rtol=0, atol=1e-4)


def test_bfloat16_stays_within_the_stated_share_of_the_spread(network, golden, tiny_network):
    vectors = golden("net_depth")
    half = network_from_weights(tiny_network, network.state_dict(), "golden").bfloat16()
    with torch.inference_mode():
        error = (
            half(torch.from_numpy(vectors["input"]).bfloat16()).float().numpy() - vectors["output"]
        ).ravel()
    assert np.abs(error).mean() < 0.03 * vectors["output"].std()
    assert np.abs(error).max() < 0.6 * vectors["output"].std()


@pytest.mark.parametrize("size", REFERENCE_PARAMETERS)
def test_released_networks_have_the_published_number_of_parameters(size):
    with torch.device("meta"):
        network = SapiensNetwork(released_network(Task.DEPTH, size))
    encoder, head = (
        sum(parameter.numel() for parameter in part.parameters())
        for part in (network.backbone, network.decode_head)
    )
    assert encoder == REFERENCE_PARAMETERS[size][0]
    assert head == pytest.approx(REFERENCE_PARAMETERS[size][1], abs=0.005e6)
    assert len(network.state_dict()) == {24: 303, 32: 399, 40: 495, 48: 591}[network.config.num_layers]


@pytest.mark.parametrize("preprocess", ["full", "lite"])
@pytest.mark.parametrize("case", range(4))
def test_the_first_layer_normalises_like_the_reference(case, preprocess, golden):
    vectors = golden("dense_preprocess")
    pixels = torch.from_numpy(vectors[f"c{case}_resized_rgb_chw"].transpose(1, 2, 0).copy())[None]
    tensor = ServedNetwork(torch.nn.Identity(), NORMALIZATIONS[preprocess])(pixels)
    np.testing.assert_allclose(tensor[0], vectors[f"c{case}_{preprocess}_tensor"], rtol=0, atol=1e-6)


def test_the_released_depth_network_is_recognised_as_such():
    assert released_network(Task.DEPTH, "1b").size == "1b"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "multiple of num_heads, got 32 and 3"),
        ({"input_hw": (60, 48)}, r"multiples of 16, got \(60, 48\)"),
        ({"num_layers": 0}, r"positive, got \{'num_layers': 0\}"),
        ({"family": "sapiens9"}, "got 'sapiens9'"),
    ],
    ids=["heads", "size", "layers", "family"],
)
def test_what_cannot_be_built_is_refused(change, message, tiny_network):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**{**vars(tiny_network), **change})
