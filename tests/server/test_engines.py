"""Engines that the server at hand cannot run, each refused in a sentence before the server starts."""

import importlib.util
import json

import pytest

from sapiens_server import EngineError, serve
from sapiens_server.engines import check_engines, refusals
from sapiens_server.errors import GpuError
from sapiens_server.gpus import Gpu, gpus
from sapiens_server.installation import Installation, find_tritonserver

BACKENDS = {"torchscript": "pytorch", "aoti": "pytorch", "onnx": "onnxruntime", "tensorrt": "tensorrt"}


@pytest.fixture
def engine(tmp_path):
    """A function (runtime, facts) -> a repository with such an engine."""

    def make(runtime, **facts):
        folder = tmp_path / "models" / "depth_engine"
        (folder / "1").mkdir(parents=True)
        (folder / "1" / "model.pt").write_text("")
        (folder / "config.pbtxt").write_text('name: "depth_engine"')
        (folder / "manifest.json").write_text(json.dumps({"runtime": runtime, **facts}))
        return folder.parent

    return make


@pytest.fixture
def container(tmp_path):
    """A function (names of backends) -> a server as in NVIDIA's container, and its command line."""

    def make(*names):
        for name in names:
            (tmp_path / "backends" / name).mkdir(parents=True)
        binary = tmp_path / "bin" / "tritonserver"
        return Installation(binary, wheel=None), [f"--backend-directory={tmp_path / 'backends'}"]

    return make


@pytest.mark.parametrize("runtime", BACKENDS)
def test_the_bundled_server_has_no_other_backend_than_python(runtime, engine):
    sentence = rf"depth_engine is an engine for Triton's {BACKENDS[runtime]} backend, .*the bundled one"
    with pytest.raises(EngineError, match=sentence):
        serve(engine(runtime), grpc_port=0)


@pytest.mark.parametrize("runtime", BACKENDS)
def test_a_backend_that_is_missing_is_named_and_one_that_is_there_is_taken(runtime, engine, container):
    repository = engine(runtime)
    server, arguments = container("python")
    with pytest.raises(EngineError, match=rf"{BACKENDS[runtime]} backend, .* there is none in .*/backends"):
        check_engines(repository, ["depth_engine"], server, arguments)
    server, arguments = container(BACKENDS[runtime])
    check_engines(repository, ["depth_engine"], server, arguments)


def test_the_folder_of_backends_is_the_last_one_given_in_either_spelling(engine, container, tmp_path):
    repository = engine("onnx")
    server, _ = container("onnxruntime")
    here, there = str(tmp_path / "backends"), str(tmp_path)
    for arguments in (
        ["--backend-directory", here],
        [f"--backend-directory={there}", "--log-verbose=1", "--backend-directory", here],
        ["--backend-directory", there, f"--backend-directory={here}"],
    ):
        check_engines(repository, ["depth_engine"], server, arguments)
        with pytest.raises(EngineError, match=rf"there is none in {there}; "):
            check_engines(repository, ["depth_engine"], server, [*arguments, "--backend-directory", there])


@pytest.mark.parametrize("place", [".", "1"])
@pytest.mark.parametrize("runtime", BACKENDS)
def test_a_backend_may_lie_in_the_model(runtime, place, engine, container):
    repository = engine(runtime)
    folder = repository / "depth_engine" / place
    (folder / f"libtriton_{BACKENDS[runtime]}.so").write_text("")
    check_engines(repository, ["depth_engine"], *container("python"))
    check_engines(repository, ["depth_engine"], find_tritonserver(), [])
    if runtime == "onnx":
        (folder / "libonnxruntime.so").write_bytes(b"\0VERS_1.20.1\0")
        with pytest.raises(EngineError, match=r"got 1\.20 in .*depth_engine"):
            check_engines(repository, ["depth_engine"], *container())


def test_refusals_are_told_by_engine_where_there_is_a_server(engine, monkeypatch):
    repository = engine("onnx")
    refused = refusals(repository, ["depth_engine", "other"])
    assert list(refused) == ["depth_engine"]
    assert refused["depth_engine"].startswith("depth_engine is an engine for Triton's onnxruntime backend")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    assert refusals(repository, ["depth_engine"]) == {}


def test_torch_is_missed_in_the_python_of_the_bundled_server(engine, container, monkeypatch):
    repository, find_spec = engine("python"), importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else find_spec(name)
    )
    with pytest.raises(EngineError, match=r"depth_engine is run by torch, .* pip install torch"):
        serve(repository, grpc_port=0)
    check_engines(repository, ["depth_engine"], *container("python"))
    (repository / "depth_engine" / "1" / "model.pt").unlink()
    check_engines(repository, ["depth_engine"], find_tritonserver(), [])


def test_a_portable_engine_needs_no_backend_of_triton_s(engine):
    repository = engine("aoti", serving={"portable": True})
    check_engines(repository, ["depth_engine"], find_tritonserver(), [])
    (repository / "depth_engine" / "manifest.json").write_text(json.dumps({"runtime": "aoti"}))
    with pytest.raises(EngineError, match=r"depth_engine is an engine for Triton's pytorch .* --portable"):
        check_engines(repository, ["depth_engine"], find_tritonserver(), [])


@pytest.mark.parametrize(
    ("version", "is_taken"),
    [("1.20.1", False), ("1.9.0", False), ("1.21.0", True), ("1.27.0", True), ("", True)],
)
def test_an_older_onnx_runtime_is_named(version, is_taken, engine, container, tmp_path):
    repository = engine("onnx", onnx_opset=22)
    server, arguments = container("onnxruntime")
    library = tmp_path / "backends" / "onnxruntime" / "libonnxruntime.so"
    library.write_bytes(b"\x7fELF...\0" + f"VERS_{version}\0".encode() + bytes(100))
    if is_taken:
        check_engines(repository, ["depth_engine"], server, arguments)
        return
    shown = version.rpartition(".")[0]
    with pytest.raises(EngineError, match=rf"needs ONNX Runtime 1\.21 or newer .*, got {shown} in"):
        check_engines(repository, ["depth_engine"], server, arguments)


@pytest.mark.parametrize(("version", "is_taken"), [("10.3.0", True), ("10.9.0", False), ("8.6.1", False)])
def test_a_plan_of_another_tensorrt_is_named(version, is_taken, engine, container, tmp_path, monkeypatch):
    repository = engine("tensorrt", plan={"tensorrt": "10.3.0.26", "gpu": "x"})
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / f"libnvinfer.so.{version}").write_text("")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "lib"))
    server, arguments = container("tensorrt")
    if is_taken:
        check_engines(repository, ["depth_engine"], server, arguments)
        return
    with pytest.raises(EngineError, match=rf"is a plan of TensorRT 10\.3\.0\.26, .* got {version}; export"):
        check_engines(repository, ["depth_engine"], server, arguments)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"runtime": 3}', '{"runtime": "tensorrt", "plan": 1}'])
def test_a_manifest_that_says_nothing_is_in_nobody_s_way(manifest, engine, container):
    repository = engine("python")
    (repository / "depth_engine" / "manifest.json").write_text(manifest)
    check_engines(repository, ["depth_engine"], *container("tensorrt"))


HOPPER = "NVIDIA H100 80GB HBM3, 9.0, 570.10, 81559 MiB"
ADA = "NVIDIA L4, 8.9, 570.10, 23034 MiB"


def test_gpus_are_told_by_the_driver(nvidia_smi):
    nvidia_smi(f"{HOPPER}\n{ADA}")
    hopper, ada = gpus()
    assert hopper == Gpu("NVIDIA H100 80GB HBM3", "9.0", "570.10", "81559 MiB")
    assert ada.compute_capability == "8.9"


def test_a_driver_that_cannot_tell_is_named(nvidia_smi, engine, container):
    nvidia_smi("Driver/library version mismatch", 18)
    with pytest.raises(GpuError, match=r"exit status 18: Driver/library version mismatch; mend the driver"):
        gpus()
    repository = engine("tensorrt", plan={"gpu": "NVIDIA L4", "compute_capability": "8.9"})
    with pytest.raises(EngineError, match="depth_engine needs a GPU: nvidia-smi must tell"):
        check_engines(repository, ["depth_engine"], *container("tensorrt"))


@pytest.mark.parametrize("status", [None, 12])
def test_gpus_about_which_nobody_can_tell_are_taken_with_a_warning(
    status, engine, container, nvidia_smi, monkeypatch, tmp_path
):
    if status:
        nvidia_smi("NVIDIA-SMI could not find libnvidia-ml.so", status)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    repository = engine("tensorrt", plan={"gpu": "NVIDIA L4", "compute_capability": "8.9"})
    monkeypatch.setattr("sapiens_server.gpus._DEVICES", ("null",))
    (warning,) = check_engines(repository, ["depth_engine"], *container("tensorrt"))
    assert warning.startswith("warning: whether depth_engine fits the GPU is not known: nvidia-smi must tell")


@pytest.mark.parametrize(
    ("told", "facts", "refusal"),
    [
        (HOPPER, {"plan": {"gpu": "NVIDIA L4", "compute_capability": "8.9"}}, "got NVIDIA H100 .* with 9.0"),
        (f"{HOPPER}\n{ADA}", {"plan": {"gpu": "NVIDIA L4", "compute_capability": "8.9"}}, ""),
        (ADA, {"serving": {"gpus": [0, 1]}}, "is placed on GPU 1, which must be among the 1 here"),
        (ADA, {"serving": {"gpus": [0]}}, ""),
        ("", {"serving": {"gpus": [0]}}, "needs a GPU, got none"),
        ("", {"serving": {"gpus": []}}, ""),
        (HOPPER, {"package": {"gpu": "NVIDIA L4", "compute_capability": "8.9"}}, "built on NVIDIA L4"),
        (ADA, {"package": {"device": "cuda", "compute_capability": "8.9"}}, ""),
        (ADA, {"package": {"device": "cpu", "compute_capability": ""}}, "compiled for a CPU, .* NVIDIA L4"),
        ("", {"package": {"device": "cpu", "compute_capability": ""}}, ""),
    ],
)
def test_gpus_that_an_engine_needs_are_looked_for(told, facts, refusal, engine, container, nvidia_smi):
    nvidia_smi(told)
    repository, (server, arguments) = engine("tensorrt", **facts), container("tensorrt")
    if not refusal:
        check_engines(repository, ["depth_engine"], server, arguments)
        return
    with pytest.raises(EngineError, match=f"depth_engine .*{refusal}"):
        check_engines(repository, ["depth_engine"], server, arguments)
