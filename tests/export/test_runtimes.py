"""The engine files of every runtime, from networks of every task."""

import json
import zipfile
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_exports import limits

import sapiens_export
from sapiens_core.contract.engines import ENGINE_FILES, ONNX_OPSET
from sapiens_core.labels import keypoint_set
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import SAPIENS
from sapiens_export.engines.build import build_engine, check_buildable
from sapiens_export.engines.engine import EngineUnavailableError, engine_from_network
from sapiens_export.engines.load import engine_from_file
from sapiens_export.engines.onnx import onnx_from_network
from sapiens_export.engines.reduced import PoseReduction
from sapiens_export.engines.tensorrt import Profile, polygraphy_profiles, tensorrt_build
from sapiens_export.engines.torchscript import torchscript_from_network
from sapiens_export.exporter import EngineOptions, model_info
from sapiens_export.parity.compare import parity
from sapiens_export.parity.reference import reference

NETWORKS = [Task(task) for task in SAPIENS.recipes]
BUILDS = [
    ("python", "float32"),
    ("python", "float16"),
    ("python", "bfloat16"),
    ("torchscript", "float32"),
    ("onnx", "float32"),
    ("onnx", "float16"),
]
ONNX_TYPES = {"UINT8": "UINT8", "INT32": "INT32", "FP16": "FLOAT16", "FP32": "FLOAT"}


@pytest.fixture(scope="module")
def build(served, tmp_path_factory):
    """A function (network, runtime, precision, flip indices) -> its engine file, what the build tells.

    What was built once is there for all tests, which do not write to it.
    """

    @cache
    def built(network, runtime, precision, flip_indices=None):
        folder = tmp_path_factory.mktemp("engine")
        options = EngineOptions(runtime=runtime, precision=precision)
        info = model_info(network.config, options, is_trained=True)
        module = served(network, precision, flip_indices)
        facts = build_engine(module, network.config, folder, info=info, max_batch_size=4)
        return folder / ENGINE_FILES[runtime], facts

    return built


@pytest.mark.parametrize(("runtime", "precision"), BUILDS)
@pytest.mark.parametrize("task", NETWORKS)
def test_an_engine_is_as_close_as_promised_alone_and_in_a_batch(
    task, runtime, precision, build, trained, tiny_weights, served
):
    network = tiny_weights(task) if task is Task.FEATURES else trained(task)
    config = network.config
    expected = reference(
        config.recipe, engine_from_network(served(network)), config.input_hw, config.output_hw
    )
    file, _ = build(network, runtime, precision)
    engine = engine_from_file(runtime, file, "cpu")
    report = parity(engine, expected, limits(task, precision, untrained=False), max_batch_size=4)
    assert report.is_passed, str(report)


@pytest.mark.parametrize(("runtime", "precision"), BUILDS)
def test_an_engine_with_the_flip_test_is_as_close_as_promised(runtime, precision, build, trained, served):
    network = trained(Task.POSE)
    config, flip_indices = network.config, keypoint_set("coco").flip_indices
    asked = engine_from_network(served(network, flip_indices=flip_indices))
    expected = reference(config.recipe, asked, config.input_hw, config.output_hw)
    file, _ = build(network, runtime, precision, flip_indices)
    engine = engine_from_file(runtime, file, "cpu")
    # Its training knew no mirrored images: there, and so in the mean, peaks are ties as of random weights.
    report = parity(engine, expected, limits(Task.POSE, precision, untrained=True), max_batch_size=4)
    assert report.is_passed, str(report)
    assert [len(output) for output in engine(expected.pixels[[0, 1, 0]])] == [3, 3, 3, 3]


def test_a_network_that_takes_one_size_of_batch_alone_becomes_no_onnx_file(tmp_path):
    class Halved(torch.nn.Module):
        def forward(self, pixels):
            first, second = pixels.float().repeat(2, 1, 1, 1).chunk(2)
            return first + second

    with pytest.raises(EngineUnavailableError, match="batches of any size, got") as raised:
        onnx_from_network(Halved().eval(), first_recipe(Task.DEPTH).engine, (16, 16), tmp_path / "model.onnx")
    assert "depth_map" in str(raised.value)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("task", NETWORKS)
def test_an_onnx_file_has_the_contract_of_its_engine(task, build, tiny_weights):
    network = tiny_weights(task)
    file, facts = build(network, "onnx", "float32")
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert facts["onnx_opset"] == ONNX_OPSET == model.opset_import[0].version
    step = first_recipe(task).engine
    for tensors, specs in ((model.graph.input, step.inputs), (model.graph.output, step.outputs)):
        assert [tensor.name for tensor in tensors] == [spec.name for spec in specs]
        for tensor, spec in zip(tensors, specs, strict=True):
            kind = tensor.type.tensor_type
            assert onnx.TensorProto.DataType.Name(kind.elem_type) == ONNX_TYPES[spec.dtype]
            assert kind.shape.dim[0].dim_param
            assert all(dim.dim_value > 0 for dim in kind.shape.dim[1:])


@pytest.mark.parametrize("task", NETWORKS)
def test_outputs_are_contiguous_so_that_nobody_copies_them(task, build, tiny_weights):
    file, _ = build(tiny_weights(task), "torchscript", "float32")
    height, width = tiny_weights(task).config.input_hw
    with torch.inference_mode():
        outputs = torch.jit.load(file)(torch.zeros(2, height, width, 3, dtype=torch.uint8))
    assert all(output.is_contiguous() for output in (outputs if isinstance(outputs, tuple) else [outputs]))


@pytest.mark.parametrize("runtime", ["python", "onnx"])
def test_an_engine_tells_nothing_of_the_machine_that_made_it(runtime, build, tiny_weights):
    file, _ = build(tiny_weights(Task.DEPTH), runtime, "float32")
    entries = [file.read_bytes()]
    if runtime == "python":
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
            entries += [archive.read(name) for name in archive.namelist()]
    for path in (sapiens_export.__file__, torch.__file__, __file__, file):
        assert not any(str(Path(path).parent).encode() in entry for entry in entries)
    assert not any(b".py(" in entry or b'.py"' in entry for entry in entries)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_tensorrt_gets_bytes_that_it_only_has_to_cast(precision, served, tiny_weights, tmp_path):
    network = tiny_weights(Task.POSE)
    module, path = served(network, precision), tmp_path / "model.onnx"
    onnx_from_network(module, first_recipe(Task.POSE).engine, network.config.input_hw, path)
    nodes = onnx.load(path).graph.node
    assert [node.op_type for node in nodes if "pixels" in node.input] == ["Cast"]
    weights = {
        onnx.TensorProto.DataType.Name(weight.data_type) for weight in onnx.load(path).graph.initializer
    }
    assert {"float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}[precision] in weights


def test_weights_too_large_for_one_file_lie_beside_it(served, tiny_weights, tmp_path, monkeypatch):
    from torch.onnx._internal.exporter import _onnx_program

    monkeypatch.setattr(_onnx_program, "_LARGE_MODEL_THRESHOLD", 1000)  # instead of two billion
    network = tiny_weights(Task.DEPTH)
    folder = tmp_path / "engine"
    folder.mkdir()
    path = folder / "model.onnx"
    onnx_from_network(served(network), first_recipe(Task.DEPTH).engine, network.config.input_hw, path)
    assert sorted(file.name for file in folder.iterdir()) == ["model.onnx", "model.onnx.data"]
    folder.rename(tmp_path / "moved")
    (output,) = engine_from_file("onnx", tmp_path / "moved" / "model.onnx", "cpu")(
        np.zeros((1, 64, 48, 3), np.uint8)
    )
    assert output.shape == (1, 1, 64, 48)


def test_what_tensorrt_is_asked_for_follows_from_the_onnx_file(build, tiny_weights):
    file, facts = build(tiny_weights(Task.SEG), "onnx", "float16")
    request = tensorrt_build(file, max_batch_size=8)
    assert request.inputs == {"pixels": "UINT8"}
    assert request.outputs == {"logits": "FLOAT16"}
    single, batch = (1, 64, 48, 3), (8, 64, 48, 3)
    assert request.profiles == (
        {"pixels": Profile(single, single, single)},
        {"pixels": Profile(single, batch, batch)},
    )
    assert len(tensorrt_build(file, max_batch_size=1).profiles) == 1
    assert json.loads(json.dumps(facts)) == facts


def test_the_line_for_building_elsewhere_asks_for_the_same(build, tiny_weights):
    _, facts = build(tiny_weights(Task.DEPTH), "onnx", "float32")
    assert facts["trtexec"] == (
        "trtexec --onnx=model.onnx --saveEngine=model.plan "
        "--profile=0 --minShapes=pixels:1x64x48x3 --optShapes=pixels:1x64x48x3 --maxShapes=pixels:1x64x48x3 "
        "--profile=1 --minShapes=pixels:1x64x48x3 --optShapes=pixels:4x64x48x3 --maxShapes=pixels:4x64x48x3 "
        "--stronglyTyped --noTF32"
    )


class Planted(torch.nn.Module):
    """Pixels to heatmaps that are their colours, and on to their peaks."""

    def __init__(self):
        super().__init__()
        self.reduction = PoseReduction()

    def forward(self, pixels):
        return self.reduction(pixels.permute(0, 3, 1, 2).float())


@pytest.mark.parametrize("runtime", ["torch", "torchscript", "onnx"])
def test_of_equal_peaks_the_first_wins(runtime, tmp_path):
    """Wherever they are and however many: `argmax` alone promises no order among equals."""
    path, network = tmp_path / "model", Planted().eval()
    if runtime == "torchscript":
        torchscript_from_network(network, (64, 48), path)
    elif runtime == "onnx":
        onnx_from_network(network, first_recipe(Task.POSE).engine, (64, 48), path)
    run = engine_from_network(network) if runtime == "torch" else engine_from_file(runtime, path, "cpu")
    rng = np.random.default_rng(0)
    for size, num_ties in product((1, 4), (2, 300, 64 * 48)):
        pixels = rng.integers(0, 200, (size, 64 * 48, 3), dtype=np.uint8)
        for person in pixels:
            person[rng.choice(64 * 48, num_ties, replace=False)] = 255
        peaks, scores, *_ = run(pixels.reshape(size, 64, 48, 3))
        rows, columns = np.divmod((pixels == 255).argmax(axis=1), 48)
        np.testing.assert_array_equal(peaks, np.stack([columns, rows], axis=2))
        assert (scores == 255).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to build on")
def test_without_tensorrt_or_gpu_it_is_said_how_to_build():
    with pytest.raises(EngineUnavailableError, match=r"nvcr\.io/nvidia/tensorrt.*") as raised:
        check_buildable("tensorrt", "bfloat16")
    assert "a TensorRT engine" in str(raised.value)


def test_onnxruntime_is_not_asked_for_what_it_cannot_compute():
    with pytest.raises(ValueError, match="float32 or float16, got bfloat16, for which onnxruntime has no"):
        check_buildable("onnx", "bfloat16")


def test_a_compiler_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailableError, match=r"C\+\+ compiler g\+\+, got none on PATH; install it"):
        check_buildable("aoti", "float32")
    monkeypatch.setenv("CXX", "/opt/own/clang++")
    with pytest.raises(EngineUnavailableError, match=r"compiler /opt/own/clang\+\+, .* --runtime python"):
        check_buildable("aoti", "float32")


@pytest.mark.parametrize("release", ["1.20.1", "1.9.0"])
def test_an_onnxruntime_that_is_too_old_for_the_files_is_named(release, monkeypatch, tmp_path):
    monkeypatch.setattr(onnxruntime, "__version__", release)
    message = f"1.21 or newer to read files of opset 22, got {release}; pip install 'onnxruntime>=1.21'"
    with pytest.raises(EngineUnavailableError, match=message):
        check_buildable("onnx", "float32")
    with pytest.raises(EngineUnavailableError, match=message):
        engine_from_file("onnx", tmp_path / "model.onnx", "cpu")


def test_onnxruntime_computes_in_float32_on_a_gpu_too(monkeypatch, tmp_path):
    asked = []

    class Session:
        def __init__(self, _path, _options, providers):
            asked.extend(providers)

        def get_providers(self):
            return ["CUDAExecutionProvider"]

        def get_inputs(self):
            return [type("Input", (), {"name": "pixels"})]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    engine_from_file("onnx", tmp_path / "model.onnx", "cuda")
    assert asked == [("CUDAExecutionProvider", {"use_tf32": "0"})]


def test_comparing_leaves_the_libraries_of_the_gpu_on(tiny_weights, served):
    seen = []

    class Watching(torch.nn.Module):
        def forward(self, pixels):
            seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
            return pixels

    engine_from_network(Watching())(np.zeros((1, 2, 2, 3), np.uint8))
    assert seen == [(torch.backends.cudnn.enabled, False)]


def test_an_onnx_engine_says_which_pixels_it_does_not_take(build, tiny_weights):
    file, _ = build(tiny_weights(Task.DEPTH), "onnx", "float32")
    with pytest.raises(EngineUnavailableError, match=r"model\.onnx must take \(1, 32, 48, 3\) pixels"):
        engine_from_file("onnx", file, "cpu")(np.zeros((1, 32, 48, 3), np.uint8))


def test_a_plan_is_not_run_on_the_cpu(tmp_path):
    with pytest.raises(EngineUnavailableError, match="runs on GPUs alone, got device 'cpu'"):
        engine_from_file("tensorrt", tmp_path / "model.plan", "cpu")


def test_the_builder_gets_the_shapes_of_both_profiles(build, tiny_weights):
    file, _ = build(tiny_weights(Task.DEPTH), "onnx", "float32")
    single, batches = polygraphy_profiles(tensorrt_build(file, max_batch_size=8))
    assert [tuple(shapes) for shapes in single.values()] == [((1, 64, 48, 3),) * 3]
    assert [tuple(shapes) for shapes in batches.values()] == [
        ((1, 64, 48, 3), (8, 64, 48, 3), (8, 64, 48, 3))
    ]
    assert list(single) == list(batches) == ["pixels"]


def test_a_file_that_is_no_engine_is_an_error_of_its_library(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no engine")
    with pytest.raises(EngineUnavailableError, match=r"model\.onnx must be an ONNX file that onnxruntime"):
        engine_from_file("onnx", tmp_path / "model.onnx", "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("task", NETWORKS)
def test_a_tensorrt_engine_is_as_close_as_promised(task, precision, build, trained, tiny_weights, served):
    network = tiny_weights(task) if task is Task.FEATURES else trained(task)
    config = network.config
    expected = reference(
        config.recipe, engine_from_network(served(network)), config.input_hw, config.output_hw
    )
    file, facts = build(network, "tensorrt", precision)
    engine = engine_from_file("tensorrt", file, "cuda")
    report = parity(engine, expected, limits(task, precision, untrained=False), max_batch_size=4)
    assert report.is_passed, str(report)
    assert facts["plan"]["gpu"] == torch.cuda.get_device_name()
