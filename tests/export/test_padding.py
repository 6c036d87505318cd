import pytest
import torch

from sapiens_core.recipes.recipe import Task
from sapiens_export.networks.config import NetworkConfig
from sapiens_export.networks.padding import padded_heads
from sapiens_export.weights.checkpoints import random_network

ROUNDING = 2e-6  # of the output's range, float32


def network_with(head_dim):
    config = NetworkConfig("sapiens", Task.DEPTH, 2 * head_dim, 3, 2, 0, (64, 48), 8, 1)
    network = random_network(config, seed=0)
    with torch.no_grad():
        for layer in network.backbone.layers:
            layer.attn.qkv.bias.normal_()  # so that padded rows would show
    return network


def block_outputs(network, images):
    outputs = []
    for layer in network.backbone.layers:
        layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.inference_mode():
        return [network(images), *outputs]


@pytest.mark.parametrize(("head_dim", "padded_dim"), [(12, 16), (60, 64)])
def test_padded_heads_compute_the_same(head_dim, padded_dim):
    network = network_with(head_dim)
    padded = padded_heads(network)
    assert padded.backbone.layers[0].attn.qkv.out_features == 3 * 2 * padded_dim
    images = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    expected, seen = block_outputs(network, images), block_outputs(padded, images)
    assert len(expected) == len(seen) == 1 + 3
    for wanted, got in zip(expected, seen, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=ROUNDING * float(wanted.max() - wanted.min()))


def test_the_padded_network_leaves_its_origin_alone_and_shares_the_rest():
    network = network_with(12)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    padded = padded_heads(network)
    after, shared = network.state_dict(), padded.state_dict()
    assert after.keys() == before.keys() == shared.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    own = {name for name in after if shared[name].data_ptr() != after[name].data_ptr()}
    assert {name.split("attn.")[1] for name in own} == {"qkv.weight", "qkv.bias", "proj.weight"}
    assert not padded.training


def test_heads_of_a_fitting_width_are_returned_as_they_are():
    network = network_with(16)
    assert padded_heads(network) is network


def test_padding_keeps_the_number_format():
    padded = padded_heads(network_with(12).bfloat16())
    assert {parameter.dtype for parameter in padded.parameters()} == {torch.bfloat16}
    assert padded.backbone.layers[0].attn.scale == 12**-0.5


def test_padding_twice_is_padding_once():
    padded = padded_heads(network_with(12))
    assert padded_heads(padded) is padded
