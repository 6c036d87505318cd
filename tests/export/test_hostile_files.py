"""Whatever the weight file: a sentence, nothing of it executed, and the repository as it was."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typer import Typer
from typer.testing import CliRunner

from sapiens_export.commands.export import export_command
from sapiens_export.exporter import export_engine
from sapiens_export.weights.checkpoints import network_from_weights
from sapiens_export.weights.sources import source_from_seed


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        return self.scale * images + others


class Weightless(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images


def depth_weights(golden_folder):
    return load_file(golden_folder / "net_depth.safetensors")


def pickled_code(folder, _golden_folder, trap):
    path = folder / "code.pth"
    path.write_bytes(pickle.dumps({"state_dict": Touches(trap)}, protocol=2))
    return path


def zipped_code(folder, golden_folder, trap):
    torch.save({"state_dict": {**depth_weights(golden_folder), "more": Touches(trap)}}, folder / "code.pth")
    return folder / "code.pth"


def truncated_safetensors(folder, golden_folder, _trap):
    data = (golden_folder / "net_depth.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(data[: len(data) // 2])
    return folder / "half.safetensors"


def lying_safetensors(folder, golden_folder, _trap):
    data = (golden_folder / "net_depth.safetensors").read_bytes()
    (folder / "lie.safetensors").write_bytes((2**62).to_bytes(8, "little") + data[8:])
    return folder / "lie.safetensors"


def another_task(_folder, golden_folder, _trap):
    return golden_folder / "net_seg.safetensors"


def another_size(folder, golden_folder, _trap):
    weights = depth_weights(golden_folder)
    weights["backbone.ln1.weight"] = torch.ones(33)
    save_file(weights, folder / "shape.safetensors")
    return folder / "shape.safetensors"


def nan_weights(folder, golden_folder, _trap):
    weights = depth_weights(golden_folder)
    weights["decode_head.conv_seg.bias"][0] = float("nan")
    save_file(weights, folder / "nan.safetensors")
    return folder / "nan.safetensors"


def infinite_outputs(folder, golden_folder, _trap):
    """Every weight is a number, but what comes out is none."""
    weights = depth_weights(golden_folder)
    weights["decode_head.conv_seg.weight"][:] = 3e38
    save_file(weights, folder / "huge.safetensors")
    return folder / "huge.safetensors"


def archive_of_two_inputs(folder, _golden_folder, _trap):
    torch.jit.script(TwoInputs()).save(folder / "two.pt2")
    return folder / "two.pt2"


def archive_without_weights(folder, _golden_folder, _trap):
    torch.jit.script(Weightless()).save(folder / "empty.pt2")
    return folder / "empty.pt2"


FILES = {
    pickled_code: "must be a complete PyTorch or safetensors file",
    zipped_code: "must hold tensors only, more are not",
    truncated_safetensors: "must be a complete PyTorch or safetensors file",
    lying_safetensors: "must be a complete PyTorch or safetensors file",
    another_task: "must hold the weights of a depth network: missing",
    another_size: "backbone.ln1.weight must be (32,), got (33,)",
    nan_weights: "weights must be finite, decode_head.conv_seg.bias in",
    infinite_outputs: "engine must be close to the float32 network",
    archive_of_two_inputs: "must take images of (1, 3, 64, 48), and fails",
    archive_without_weights: "must hold a dictionary of weights",
}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_a_hostile_file_is_refused_without_a_trace(make, golden_folder, tiny_network, network_file, tmp_path):
    app = Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(export_command)
    repository, trap = tmp_path / "served" / "models", tmp_path / "trap"
    export_engine(source_from_seed(tiny_network, 0), repository)
    before = contents(repository.parent)
    file = make(tmp_path, golden_folder, trap)
    options = ["depth", "--checkpoint", file, "--network", network_file, "--repository", repository]
    result = CliRunner().invoke(app, [str(option) for option in options])
    assert result.exit_code == 1, result.output
    assert FILES[make] in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not trap.exists()
    assert contents(repository.parent) == before


def test_an_archive_that_is_used_as_it_is_becomes_no_onnx_engine(
    golden_folder, tiny_network, network_file, tmp_path
):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.wrapped = network_from_weights(tiny_network, depth_weights(golden_folder), "golden")

        def forward(self, images):
            return self.wrapped(images)

    with pytest.warns(torch.jit.TracerWarning):
        torch.jit.trace(Wrapped(), torch.zeros(1, 3, 64, 48)).save(tmp_path / "x.pt2")
    app = Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(export_command)
    options = ["depth", "--checkpoint", tmp_path / "x.pt2", "--network", network_file, "--runtime", "onnx"]
    result = CliRunner().invoke(app, [str(option) for option in (*options, "--repository", tmp_path / "m")])
    assert result.exit_code == 1, result.output
    assert "becomes a float32 engine of" in " ".join(result.output.split())
    assert not (tmp_path / "m").exists()


def test_the_trap_would_have_shown(tmp_path):
    (tmp_path / "code.pickle").write_bytes(pickle.dumps(Touches(tmp_path / "trap")))
    load = f"import pickle; pickle.load(open({str(tmp_path / 'code.pickle')!r}, 'rb'))"
    subprocess.run([sys.executable, "-W", "ignore", "-c", load], check=True)
    assert (tmp_path / "trap").exists()
