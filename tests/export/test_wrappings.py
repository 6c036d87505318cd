"""Checkpoints as people have them: wrapped, renamed, in files of other suffixes and older formats."""

import argparse
import json
from collections import OrderedDict
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sapiens_core.recipes.recipe import Task
from sapiens_export.networks.config import read_network, released_network
from sapiens_export.weights.checkpoints import load_state_dict, network_from_weights
from sapiens_export.weights.sources import source_from_checkpoint


@pytest.fixture
def state(golden_folder):
    return load_file(golden_folder / "net_depth.safetensors")


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def inner(state, part):
    """Names as where the parts of a network are wrapped, not the whole."""
    return {name.replace(".", f".{part}.", 1): tensor for name, tensor in state.items()}


def stepped(state):
    return {
        "state": {0: {"exp_avg": next(iter(state.values())), "step": torch.tensor(3.0)}},
        "param_groups": [],
    }


WRAPPED = {
    "DistributedDataParallel": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "compiled and distributed": lambda state: prefixed(state, "_orig_mod.module."),
    "sharded": lambda state: inner(state, "_fsdp_wrapped_module"),
    "parts compiled": lambda state: inner(state, "_orig_mod"),
    "Lightning": lambda state: {"state_dict": prefixed(state, "model."), "epoch": 3, "hparams": {"lr": 0.1}},
    "Lightning with a loss": lambda state: {
        "state_dict": prefixed(state, "net.") | {"loss.weight": torch.ones(3)}
    },
    "averaged": lambda state: {"n_averaged": torch.tensor(7)} | prefixed(state, "module."),
    "of a trainer": lambda state: {"model": state, "optimizer": stepped(state), "epoch": torch.tensor(3)},
    "of torch's tutorial": lambda state: {"epoch": 3, "model_state_dict": state, "loss": torch.tensor(0.5)},
    "with a mean of itself": lambda state: {"model": state, "ema": prefixed(state, "module.")},
    "under another name": lambda state: {"student": {"weights_of_it": state}, "optimizer": stepped(state)},
    "nested": lambda state: {"state_dict": {"model": prefixed(state, "module.")}},
    "ordered": lambda state: {"state_dict": OrderedDict(state), "meta": {"epoch": 3}},
    "with counters": lambda state: state | {"decode_head.norm.num_batches_tracked": torch.tensor(9)},
    "with arguments": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1)},
    "with numpy's numbers": lambda state: {"state_dict": state, "best": np.float64(1)},
}


def check(path, state):
    loaded = load_state_dict(path)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "older format"])
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_weights_are_found_whatever_is_around_them(wrapped, is_zip, state, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(WRAPPED[wrapped](state), path, _use_new_zipfile_serialization=is_zip)
    check(path, state)


@pytest.mark.parametrize("name", ["weights.bin", "weights.pth", "weights", "weights.safetensors.part"])
def test_safetensors_may_have_any_suffix(name, state, tmp_path):
    save_file(prefixed(state, "module."), tmp_path / name)
    check(tmp_path / name, state)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "older format"])
def test_torch_files_may_be_called_safetensors(is_zip, state, tmp_path):
    path = tmp_path / "weights.safetensors"
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=is_zip)
    check(path, state)


@pytest.mark.parametrize("wrapper", ["", "module.", "encoder."])
def test_bare_names_of_a_backbone_may_be_wrapped_too(wrapper, golden_folder, golden_networks, tmp_path):
    state = load_file(golden_folder / "net_pretrain.safetensors")
    bare = {name.removeprefix("backbone."): tensor for name, tensor in state.items()}
    torch.save(prefixed(bare, wrapper), tmp_path / "weights.pth")
    source = source_from_checkpoint(Task.FEATURES, tmp_path / "weights.pth", golden_networks["pretrain"])
    expected = network_from_weights(golden_networks["pretrain"], state, "golden").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in source.network.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda state: prefixed(state, "student.") | prefixed(state, "teacher."), "one network, got several"),
        (lambda state: {"a": state, "b": state}, r"one dictionary of weights, got \['a', 'b'\]"),
        (lambda state: {"optimizer": stepped(state)}, "must hold tensors only, optimizer are not"),
        (
            lambda _state: {"model": argparse.Namespace()},
            "an object of a class of its own; save its state_dict",
        ),
        (lambda _state: argparse.Namespace(), "an object of a class of its own; save its state_dict"),
    ],
    ids=["two networks", "two dictionaries", "an optimizer", "a module inside", "a module"],
)
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "older format"])
def test_what_is_not_one_network_is_refused_as_what_it_is(content, message, is_zip, state, tmp_path):
    torch.save(content(state), tmp_path / "x.pth", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=message):
        load_state_dict(tmp_path / "x.pth")


def test_a_dictionary_that_holds_itself_is_refused(tmp_path):
    content = {"more": {}}
    content["more"]["model"] = content
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="must hold tensors only"):
        load_state_dict(tmp_path / "x.pth")


def table(network, grid_hw, weights):
    """Weights with a position table in which every patch is different."""
    rows, columns = grid_hw
    positions = (
        torch.arange(rows * columns, dtype=torch.float32).view(1, -1, 1).repeat(1, 1, network.embed_dim)
    )
    return weights | {"backbone.pos_embed": positions}


def test_a_table_that_fits_is_kept_whatever_the_aspect(tiny_network, state):
    landscape = replace(tiny_network, input_hw=(768, 1024))
    weights = table(landscape, (48, 64), state)
    network = network_from_weights(landscape, weights, "weights")
    assert torch.equal(network.backbone.pos_embed, weights["backbone.pos_embed"])


def test_a_table_is_resized_from_the_input_that_is_said(tiny_network, state):
    landscape = replace(tiny_network, input_hw=(768, 1024), position_hw=(1024, 768))
    weights = table(landscape, (64, 48), state)
    positions = network_from_weights(landscape, weights, "weights").backbone.pos_embed[0, :, 0].detach()
    resized = positions.view(48, 64)
    assert (resized.diff(dim=0) > resized.diff(dim=1)[:-1].max()).all()  # rows are rows
    assert not torch.equal(positions, weights["backbone.pos_embed"][0, :, 0])


@pytest.mark.parametrize(
    ("sizes", "num_patches"),
    [({}, 13), ({"position_hw": (64, 64)}, 12), ({"position_hw": (96, 64)}, 12)],
    ids=["guessed", "said, square", "said, larger"],
)
def test_a_table_of_another_number_of_patches_is_refused(sizes, num_patches, tiny_network, state):
    network = replace(tiny_network, **sizes)
    with pytest.raises(ValueError, match=rf"patches of an input of .* got {num_patches}; .*position_hw"):
        network_from_weights(network, table(network, (num_patches, 1), state), "weights")


def test_the_class_token_stays_before_a_resized_table(golden_folder, golden_networks):
    weights = load_file(golden_folder / "net_pretrain.safetensors")
    config = golden_networks["pretrain"]
    larger = replace(config, input_hw=(128, 96), position_hw=config.input_hw)
    positions = network_from_weights(larger, weights, "golden").backbone.pos_embed
    assert positions.shape[1] == 1 + 8 * 6
    assert torch.equal(positions[:, 0], weights["backbone.pos_embed"][:, 0])


@pytest.mark.parametrize("sides", [[64], [64, 50], "64x48", [64, 48.0], [0, 48]])
def test_odd_inputs_of_a_table_are_refused(sides, tiny_network, tmp_path):
    (tmp_path / "net.json").write_text(json.dumps(asdict(tiny_network) | {"position_hw": sides}))
    with pytest.raises(ValueError, match="position_hw"):
        read_network(tmp_path / "net.json", Task.DEPTH)


def test_what_a_table_is_for_makes_no_other_architecture():
    released = released_network(Task.DEPTH, "0.3b")
    assert replace(released, position_hw=(1024, 1024)).size == "0.3b"


def test_weights_are_not_made_at_random_before_they_are_loaded(tiny_network, state):
    generator = torch.get_rng_state()
    network_from_weights(tiny_network, state, "golden")
    assert torch.equal(torch.get_rng_state(), generator)
