import json
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sapiens_core.recipes.recipe import Task
from sapiens_export.networks.config import NetworkConfig
from sapiens_export.networks.sapiens import SapiensNetwork
from sapiens_export.weights.checkpoints import (
    is_torchscript,
    load_state_dict,
    network_from_archive,
    network_from_weights,
    random_network,
    recognised_network,
)
from sapiens_export.weights.hashes import file_sha256
from sapiens_export.weights.sources import source_from_checkpoint

OFFICIAL_LAYOUTS = ["ckpt_seg28_wrapped.pth", "ckpt_pose308_mmengine_meta.pth", "ckpt_pretrain_clean.pth"]


class RunsCode:
    """Pickles into a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def legacy_save(content, file):
    torch.save(content, file, _use_new_zipfile_serialization=False)


@pytest.fixture
def weights(golden_folder):
    return load_file(golden_folder / "net_depth.safetensors")


@pytest.fixture
def archive(tiny_network, weights, tmp_path):
    path = tmp_path / "sapiens_torchscript.pt2"
    network = network_from_weights(tiny_network, weights, "golden")
    with pytest.warns(torch.jit.TracerWarning):
        torch.jit.trace(network, torch.zeros(1, 3, 64, 48)).save(path)
    return path


@pytest.mark.parametrize("name", OFFICIAL_LAYOUTS)
def test_official_layouts_give_the_expected_tensors(name, golden_folder):
    weights = load_state_dict(golden_folder / name)
    expected = json.loads((golden_folder / "ckpt_expected.json").read_text())[name]
    assert weights.keys() == expected.keys()
    for key, facts in expected.items():
        assert list(weights[key].shape) == facts["shape"]
        assert weights[key].double().sum().item() == pytest.approx(facts["sum"], rel=1e-6)
        assert weights[key].double().abs().sum().item() == pytest.approx(facts["abs_sum"], rel=1e-6)


def test_safetensors_are_read(weights, tmp_path):
    save_file(weights, tmp_path / "weights.safetensors")
    loaded = load_state_dict(tmp_path / "weights.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_code_beside_the_weights_is_not_run(weights, tmp_path):
    torch.save({"state_dict": weights, "meta": RunsCode(f"touch {tmp_path / 'ran'}")}, tmp_path / "evil.pth")
    assert load_state_dict(tmp_path / "evil.pth").keys() == weights.keys()
    assert not (tmp_path / "ran").exists()


def test_code_in_the_place_of_weights_is_refused(tmp_path):
    torch.save({"state_dict": RunsCode(f"touch {tmp_path / 'ran'}")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="dictionary of weights"):
        load_state_dict(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [pickle.dump, legacy_save], ids=["pickle", "legacy torch file"])
def test_a_plain_pickle_with_code_is_refused_unrun(save, tmp_path):
    with (tmp_path / "evil.pth").open("wb") as file:
        save(RunsCode(f"touch {tmp_path / 'ran'}"), file)
    with pytest.raises(ValueError, match=r"evil\.pth"):
        load_state_dict(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("text.pth", b"not a checkpoint"),
        ("short.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{"),
        ("page.html.pth", b"<html>Sign in</html>"),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_name(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*complete"):
        load_state_dict(tmp_path / name)


def test_a_truncated_checkpoint_is_refused(golden_folder, tmp_path):
    data = (golden_folder / OFFICIAL_LAYOUTS[0]).read_bytes()
    (tmp_path / "half.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"half\.pth"):
        load_state_dict(tmp_path / "half.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.pth is not"):
        load_state_dict(tmp_path / "absent.pth")


def test_weights_that_are_not_finite_are_refused(weights, tmp_path):
    weights["backbone.ln1.bias"][3] = np.nan
    save_file(weights, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=r"finite, backbone\.ln1\.bias"):
        load_state_dict(tmp_path / "nan.safetensors")


class InertRebuild:
    """Pickles into a tensor made of something that is no storage."""

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (RunsCode("true"), 0, (1,), (1,), False, {})


class WrongOrderedDict:
    def __reduce__(self):
        return OrderedDict, (5,)


def test_a_damaged_zip_is_refused(golden_folder, tmp_path):
    data = bytearray((golden_folder / OFFICIAL_LAYOUTS[0]).read_bytes())
    data[data.rindex(b"PK\x01\x02")] = 0  # the last entry of the central directory
    (tmp_path / "zip.pth").write_bytes(data)
    with pytest.raises(ValueError, match=r"zip\.pth must be a complete"):
        load_state_dict(tmp_path / "zip.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({3: torch.zeros(1)}, "names that are text, got 3"),
        ({"a": torch.zeros(1), 3: torch.zeros(1)}, "names that are text, got 3"),
        ({"a": torch.zeros(1, device="meta")}, "dense tensors .* a in"),
        ({"a": torch.eye(2).to_sparse()}, "dense tensors .* a in"),
        ({"a": torch.zeros(1).expand(10**13)}, "dense tensors .* a in"),
        ({"a": torch.zeros(1, dtype=torch.int64)}, "dense tensors .* a in"),
        ({"a": InertRebuild()}, r"x\.pth must be a complete"),
        ({"a": RunsCode("true"), "b": WrongOrderedDict()}, r"x\.pth must be a complete"),
    ],
    ids=["integer", "mixed", "meta", "sparse", "expanded", "integers", "inert storage", "ordered dict"],
)
def test_odd_contents_are_refused_in_a_sentence(content, message, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=message):
        load_state_dict(tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore")
def test_quantized_weights_are_refused(tmp_path):
    torch.save({"a": torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"dense tensors|complete"):
        load_state_dict(tmp_path / "x.pth")


def test_an_optimizer_state_is_refused(tmp_path):
    torch.save({"lr": 0.1, "step": 3}, tmp_path / "optimizer.pth")
    with pytest.raises(ValueError, match="tensors only, lr, step"):
        load_state_dict(tmp_path / "optimizer.pth")


def test_weights_of_another_task_are_refused(tiny_network, golden_folder):
    weights = load_state_dict(golden_folder / OFFICIAL_LAYOUTS[0])
    with pytest.raises(ValueError, match=r"weights of a depth network: missing .* more, unknown"):
        network_from_weights(tiny_network, weights, "seg28.pth")


def test_weights_of_another_size_are_refused(tiny_network, weights):
    wider = NetworkConfig(**{**vars(tiny_network), "head_channels": 16})
    with pytest.raises(ValueError, match=r"must be \(.*16.*\), got \(.*12.*\) in golden"):
        network_from_weights(wider, weights, "golden")


def test_positions_of_the_released_size_are_resized_to_another_input(tiny_network, weights):
    weights["backbone.pos_embed"] = torch.ones(1, 64 * 48, 32)
    network = network_from_weights(tiny_network, weights, "golden")
    assert torch.allclose(network.backbone.pos_embed, torch.ones(1, 12, 32))


def test_an_official_torchscript_file_is_used_as_it_is(archive, tiny_network, golden):
    assert is_torchscript(archive)
    vectors = golden("net_depth")
    with torch.inference_mode():
        output = network_from_archive(tiny_network, archive)(torch.from_numpy(vectors["input"]))
    np.testing.assert_allclose(output, vectors["output"], rtol=0, atol=1e-4)


def test_a_torchscript_file_of_another_input_size_is_refused(archive, tiny_network):
    larger = NetworkConfig(**{**vars(tiny_network), "input_hw": (128, 96)})
    with pytest.raises(ValueError, match=r"must take images of \(1, 3, 128, 96\)"):
        network_from_archive(larger, archive)


def test_a_torchscript_file_of_another_task_is_refused(archive, tiny_network):
    three = NetworkConfig(**{**vars(tiny_network), "task": Task.NORMAL, "num_outputs": 3})
    with pytest.raises(ValueError, match=r"must return \(1, 3, 32, 24\) for normal, got \(1, 1, 64, 48\)"):
        network_from_archive(three, archive)


def test_weights_of_a_torchscript_file_are_filled_into_our_network(archive, tiny_network):
    assert isinstance(source_from_checkpoint(Task.DEPTH, archive, tiny_network).network, SapiensNetwork)


def test_a_torchscript_file_with_other_names_is_used_as_it_is(tiny_network, weights, tmp_path):
    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.wrapped = network_from_weights(tiny_network, weights, "golden")

        def forward(self, images):
            return self.wrapped(images)

    with pytest.warns(torch.jit.TracerWarning):
        torch.jit.trace(Wrapped(), torch.zeros(1, 3, 64, 48)).save(tmp_path / "x.pt2")
    source = source_from_checkpoint(Task.DEPTH, tmp_path / "x.pt2", tiny_network)
    assert isinstance(source.network, torch.jit.ScriptModule)


def test_a_zip_of_something_else_is_no_torchscript_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    assert not is_torchscript(tmp_path / "photos.zip")


def test_released_sizes_are_recognised_by_their_width():
    weights = {
        "backbone.pos_embed": torch.zeros(1, 3072, 1536),
        "decode_head.conv_seg.weight": torch.zeros(1, 384, 1, 1),
    }
    assert recognised_network(Task.DEPTH, weights, "x.pth").size == "1b"


@pytest.mark.parametrize(("labels", "padding"), [(None, 2), ("lip", 2), ("cihp", 2)])
def test_sets_of_as_many_classes_are_told_apart_by_name(labels, padding):
    weights = {
        "backbone.pos_embed": torch.zeros(1, 3072, 1024),
        "decode_head.conv_seg.weight": torch.zeros(20, 768, 1, 1),
    }
    network = recognised_network(Task.SEG, weights, "x.pth", labels=labels)
    assert (network.labels, network.patch_padding) == (labels or "cihp", padding)


def test_outputs_of_no_released_network_are_named():
    weights = {
        "backbone.pos_embed": torch.zeros(1, 3072, 1024),
        "head.final_layer.weight": torch.zeros(21, 768, 1, 1),
    }
    with pytest.raises(ValueError, match=r"\(308 goliath, 133 coco_wholebody, 17 coco\), it has 21"):
        recognised_network(Task.POSE, weights, "x.pth")


def test_bare_and_wrapped_encoders_give_the_same_network(golden_networks, golden_folder):
    wrapped = load_file(golden_folder / "net_pretrain.safetensors")
    bare = {name.removeprefix("backbone."): tensor for name, tensor in wrapped.items() if "neck." not in name}
    networks = [
        network_from_weights(golden_networks["pretrain"], weights, "x") for weights in (wrapped, bare)
    ]
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_old_names_of_the_pose_head_are_understood(golden_networks, golden_folder):
    weights = load_file(golden_folder / "net_pose17.safetensors")
    old = {name.replace("head.", "keypoint_head."): tensor for name, tensor in weights.items()}
    network_from_weights(golden_networks["pose17"], old, "x")


def test_other_widths_are_named_with_the_way_out(weights):
    with pytest.raises(ValueError, match=r"shape \(1, 12, 32\); describe other networks with --network"):
        recognised_network(Task.DEPTH, weights, "x.pth")


def test_random_weights_depend_on_the_seed_alone(tiny_network):
    first, second = random_network(tiny_network, 1).state_dict(), random_network(tiny_network, 1).state_dict()
    other = random_network(tiny_network, 2).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["backbone.pos_embed"], other["backbone.pos_embed"])


def test_hashes_are_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_sha256(tmp_path / "x").startswith("ba7816bf8f01cfea")
