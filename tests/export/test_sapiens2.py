"""Networks of the second family: their official names, what they compute, and how they are recognised."""

import hashlib
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sapiens_core.recipes.lookup import recipe
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens2 import SAPIENS2
from sapiens_export.engines.reduced import DTYPES, ServedNetwork
from sapiens_export.networks.config import read_network
from sapiens_export.networks.sapiens2 import MODELS, Sapiens2Network, transformers_config
from sapiens_export.networks.sapiens2_config import released_sapiens2
from sapiens_export.weights.sapiens2 import random_sapiens2, recognised_sapiens2, sapiens2_from_weights
from sapiens_export.weights.sources import source_from_checkpoint

HEADS = ("pose", "seg", "normal", "pointmap", "matting", "albedo")
# Where the reference keeps every which of its numbers.
THINNED = {
    "pose": ("heatmaps", np.s_[:, ::7]),
    "seg": ("logits", np.s_[:, :, ::4, ::4]),
    "normal": ("normal_raw", np.s_[:]),
    "pointmap": ("pointmap", np.s_[..., ::3, ::3]),
    "matting": ("matting", np.s_[:]),
    "albedo": ("albedo_raw", np.s_[:]),
}
MAX_ERROR = 2e-4
MEAN_ERRORS = {"matting": 5e-4}  # against bfloat16 positions; others 2e-3
BFLOAT16_ERRORS = {"matting": 8e-3}  # others 4e-2


def vectors(folder, task):
    return load_file(folder / f"net_io_{task}.safetensors")


@pytest.fixture(scope="module")
def released(golden2_folder):
    return json.loads((golden2_folder / "state_dict_manifest.json").read_text())["models"]


def test_names_and_shapes_of_all_released_networks_are_the_official_ones(released):
    assert len(released) == 17 + 6 + 4  # with heads, bare, and albedo, which nobody has published
    for name, facts in released.items():
        task, _, size = name.partition("-")
        config = released_sapiens2(task.replace("pretrain", "features"), size)
        with torch.device("meta"):
            state = Sapiens2Network(config).official_state_dict()
        lines = "\n".join(sorted(f"{key} {'x'.join(map(str, each.shape))}" for key, each in state.items()))
        assert hashlib.sha256(lines.encode()).hexdigest() == facts["sha256_of_sorted_lines"], name
        periods = next(each.numel() for key, each in state.items() if key.endswith("periods"))
        assert sum(each.numel() for each in state.values()) - periods == facts["num_params"]
        assert config.size == size


@pytest.mark.parametrize("task", HEADS)
def test_outputs_equal_the_reference_with_float32_positions(task, sapiens2_networks, golden2_folder):
    expected, (name, kept) = vectors(golden2_folder, task), THINNED[task]
    with torch.no_grad():
        outputs = sapiens2_networks[task](expected["input"])
    if task == "pointmap":
        outputs, scale = outputs
        np.testing.assert_allclose(scale, expected["scale__rope_fp32"], rtol=0, atol=MAX_ERROR)
    np.testing.assert_allclose(outputs[kept], expected[f"{name}__rope_fp32"], rtol=0, atol=MAX_ERROR)
    gap = (outputs - expected[name]).abs()
    # The reference's default rounds positions to bfloat16: another function, and not far from it.
    assert 5 * MAX_ERROR < gap.max() < 0.3
    assert gap.mean() < 6 * MEAN_ERRORS.get(task, 2e-3)


def test_features_equal_the_reference(sapiens2_networks, golden2_folder):
    expected = vectors(golden2_folder, "seg")
    with torch.no_grad():
        features = sapiens2_networks["features"](expected["input"])
    np.testing.assert_allclose(features, expected["backbone_featmap__rope_fp32"], rtol=0, atol=MAX_ERROR)


@pytest.mark.parametrize("task", HEADS)
def test_frequencies_of_positions_stay_float32_in_any_precision(task, sapiens2_networks, golden2_folder):
    network, expected = sapiens2_networks[task], vectors(golden2_folder, task)
    own = recipe("sapiens2", task)
    normalization = own.preparation("full").normalization
    for precision in ("float16", "bfloat16"):
        half = ServedNetwork(network, normalization, own, precision=precision).network
        buffers = dict(half.named_buffers())
        assert {each.dtype for each in buffers.values()} == {torch.float32}
        assert any(name.endswith("inv_freq") for name in buffers)
        frequencies = next(each for name, each in network.named_buffers() if name.endswith("inv_freq"))
        assert torch.equal(next(each for name, each in buffers.items() if "inv_freq" in name), frequencies)
    with torch.no_grad():
        outputs = half(expected["input"].to(DTYPES["bfloat16"]))
    outputs = outputs[0] if task == "pointmap" else outputs
    name, kept = THINNED[task]
    error = (outputs.float()[kept] - expected[f"{name}__all_bf16"].float()).abs().mean()
    assert error < BFLOAT16_ERRORS.get(task, 4e-2)


def test_a_network_in_bfloat16_is_what_transformers_would_load(sapiens2_networks, golden2_folder):
    """All but its last layer, which stays float32 here."""
    network, images = sapiens2_networks["features"], vectors(golden2_folder, "seg")["input"].bfloat16()
    own = recipe("sapiens2", "features")
    ours = ServedNetwork(network, own.preparation("full").normalization, own, precision="bfloat16").network
    theirs = MODELS["features"].from_pretrained(
        None,
        config=transformers_config(network.config),
        state_dict=network.official_state_dict(),
        dtype=torch.bfloat16,
    )
    with torch.no_grad():
        expected = theirs(pixel_values=images).last_hidden_state[:, 9:]
        found = ours(images).flatten(2).transpose(1, 2)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("task", [*HEADS, "features"])
def test_an_architecture_is_told_by_the_shapes_of_weights(task, sapiens2_networks, golden2_folder):
    config = sapiens2_networks[task].config
    found = recognised_sapiens2(Task(task), sapiens2_networks[task].official_state_dict(), "golden")
    assert replace(found, input_hw=config.input_hw) == config


def test_released_networks_are_told_by_the_shapes_of_weights():
    for task, size in (("pose", "1b"), ("normal", "5b"), ("pointmap", "0.4b"), ("features", "0.1b")):
        config = released_sapiens2(task, size)
        with torch.device("meta"):
            weights = Sapiens2Network(config).official_state_dict()
        assert recognised_sapiens2(Task(task), weights, "released") == config


def test_a_file_with_official_names_is_loaded(sapiens2_networks, sapiens2_config, golden2_folder, tmp_path):
    expected = sapiens2_networks["seg"]
    file = tmp_path / "model.safetensors"
    weights = {name: each.contiguous() for name, each in expected.official_state_dict().items()}
    weights["backbone.rope_embed.periods"] = torch.zeros(3, dtype=torch.bfloat16)
    save_file(weights, file)
    source = source_from_checkpoint(Task.SEG, file, sapiens2_config("seg"))
    state = expected.state_dict()
    assert all(torch.equal(each, state[name]) for name, each in source.network.state_dict().items())
    assert source_from_checkpoint(Task.SEG, file, None).config.hidden_size == 48
    with pytest.raises(ValueError, match="weights of a normal network of sapiens2, got others"):
        source_from_checkpoint(Task.NORMAL, file, None)
    with pytest.raises(ValueError, match=r"missing decode_head.*conv_normal"):
        source_from_checkpoint(Task.NORMAL, file, sapiens2_config("normal"))


def test_weights_of_another_width_are_refused(sapiens2_networks, sapiens2_config):
    wider = replace(sapiens2_config("seg"), intermediate_size=72)
    with pytest.raises(ValueError, match=r"ffn.w3.weight must be \(48, 72\), got \(48, 64\) in golden"):
        sapiens2_from_weights(wider, sapiens2_networks["seg"].official_state_dict(), "golden")


def test_random_weights_depend_on_the_seed_alone(sapiens2_config):
    config = replace(sapiens2_config("albedo"), num_hidden_layers=2)
    first, again, other = (random_sapiens2(config, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(each, again[name]) for name, each in first.items())
    assert not torch.equal(first["albedo.conv_albedo.weight"], other["albedo.conv_albedo.weight"])


@pytest.mark.parametrize("task", [*HEADS, "features"])
def test_a_description_may_be_the_fields_of_transformers_or_its_own_file(task, sapiens2_config, tmp_path):
    config, own = sapiens2_config(task), tmp_path / "own.json"
    facts = asdict(config)
    del facts["labels"]
    own.write_text(json.dumps(facts))
    assert read_network(own, task) == config
    if task == "albedo":  # which transformers has not
        return
    theirs = transformers_config(config)
    theirs.architectures = [MODELS[task].__name__]
    theirs.save_pretrained(tmp_path)
    assert read_network(tmp_path / "config.json", task) == config


def test_other_architectures_are_refused(sapiens2_config, tmp_path):
    theirs = transformers_config(sapiens2_config("seg"))
    theirs.architectures = [MODELS["seg"].__name__]
    theirs.use_qk_norm = False
    theirs.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="use_qk_norm must be True, as in released networks, got False"):
        read_network(tmp_path / "config.json", "seg")
    with pytest.raises(ValueError, match="architectures must have Sapiens2ForNormalEstimation for normal"):
        read_network(tmp_path / "config.json", "normal")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 50}, "multiple of four times num_attention_heads, got 50 and 4"),
        ({"num_key_value_attention_heads": 3}, "got 4 and 3"),
        ({"num_labels": 1, "labels": ""}, "from 2 to 256, got 1"),
        ({"labels": "goliath"}, "must be 'sapiens2' or empty, got 'goliath'"),
        ({"head_config": None}, "head_config must be given"),
        ({"input_hw": (64, 50)}, r"multiples of 16 .* got \(64, 50\)"),
        ({"num_hidden_layers": 0}, "positive, got {'num_hidden_layers': 0}"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_what_cannot_be_built_is_refused(changes, message, sapiens2_config):
    with pytest.raises(ValueError, match=message):
        replace(sapiens2_config("seg"), **changes)


def test_sizes_that_a_task_lacks_are_refused():
    with pytest.raises(ValueError, match=r"size of matting of sapiens2 must be one of \['1b'\], got '0.4b'"):
        released_sapiens2("matting", "0.4b")
    assert set(SAPIENS2.recipes) == {*HEADS, "features"}
