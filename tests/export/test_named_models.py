"""Several networks of one task in one repository."""

import json
from dataclasses import replace

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from sapiens_core.contract.model_info import ModelInfo
from sapiens_core.recipes.lookup import first_recipes
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.repository.manifest import InstalledEngine
from sapiens_export.repository.serving import Serving
from sapiens_export.repository.write import check_models, write_models
from sapiens_export.weights.sources import source_from_seed


def folders(repository):
    return {path.name for path in repository.iterdir()}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parsed(path):
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


@pytest.fixture(scope="module")
def two_depths(tiny_network, tmp_path_factory):
    repository = tmp_path_factory.mktemp("two") / "models"
    export_engine(source_from_seed(tiny_network, 0), repository)
    export_engine(source_from_seed(tiny_network, 1), repository, EngineOptions(name="2b"))
    return repository


@pytest.fixture
def entry(tiny_network):
    """A function (name, serving, changes of its info) -> an engine that may be installed."""

    def make(name=None, serving=None, network=tiny_network, **info):
        origin = ModelInfo(
            network.task, "sapiens", "custom", "", "float32", "python", "full", False, "none", True, ""
        )
        return InstalledEngine(network, replace(origin, **info), serving or Serving(), name)

    return make


def test_a_name_gives_all_models_but_the_preprocessor_names_of_their_own(two_depths):
    steps = {"depth", "depth_raw", "depth_engine", "depth_postprocess"}
    named = {"depth_2b", "depth_2b_raw", "depth_2b_engine", "depth_2b_postprocess"}
    assert folders(two_depths) == {"dense_preprocess", *steps, *named}
    for name in folders(two_depths):
        assert parsed(two_depths / name / "config.pbtxt").name == name


def test_named_steps_run_the_same_code_and_the_ensemble_refers_to_them(two_depths):
    for step in ("engine", "postprocess"):
        code, other = (two_depths / f"{name}_{step}/1/model.py" for name in ("depth", "depth_2b"))
        assert code.read_text() == other.read_text()
    steps = parsed(two_depths / "depth_2b" / "config.pbtxt").ensemble_scheduling.step
    assert [step.model_name for step in steps] == [
        "dense_preprocess",
        "depth_2b_engine",
        "depth_2b_postprocess",
    ]


def test_the_manifest_tells_the_name(two_depths):
    names = [
        json.loads((two_depths / f"{name}_engine" / "manifest.json").read_text())["name"]
        for name in ("depth", "depth_2b")
    ]
    assert names == [None, "2b"]


def test_writing_the_same_again_changes_nothing(entry, tmp_path):
    written = []
    (tmp_path / "engine").mkdir()
    for _ in range(2):
        (tmp_path / "engine" / "model.pt").write_text("an engine")
        write_models(tmp_path / "models", entry("2b"), engine=tmp_path / "engine", facts={"seed": 0})
        written.append(contents(tmp_path / "models"))
    assert written[0] == written[1]


def test_another_network_of_the_same_name_takes_the_place(entry, tmp_path):
    write_models(tmp_path, entry("2b"), engine=None, facts={"seed": 1})
    before = folders(tmp_path)
    write_models(tmp_path, entry("2b"), engine=None, facts={"seed": 2})
    assert folders(tmp_path) == before
    assert json.loads((tmp_path / "depth_2b_engine" / "manifest.json").read_text())["seed"] == 2


@pytest.mark.parametrize("name", ["2b", "0.3b", "a", "fp16-fast", "x_y", "raw2", "a" * 40])
def test_names_that_triton_and_shells_take_are_taken(name, entry, tmp_path):
    check_models(tmp_path, entry(name))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "raw",
        "engine",
        "postprocess",
        "preprocess",
        "2b_raw",
        "2B",
        "2b/",
        "..",
        ".x",
        "x-",
        "ä",
        "a b",
        "a" * 41,
    ],
)
def test_other_names_are_refused(name, entry, tmp_path):
    with pytest.raises(ValueError, match=r"name must be at most 40 small letters, .* got "):
        check_models(tmp_path, entry(name))


@pytest.mark.parametrize(
    ("changes", "seen"),
    [({"preprocess": "lite"}, "'preprocess': 'lite'"), ({"input_hw": (32, 48)}, r"'input_hw': \(32, 48\)")],
    ids=["preprocess", "input size"],
)
@pytest.mark.parametrize("name", [None, "2b", "other"])
def test_all_that_share_a_preprocessor_must_agree_on_it(name, changes, seen, entry, tiny_network, two_depths):
    before = contents(two_depths)
    sizes = {key: value for key, value in changes.items() if key == "input_hw"}
    info = {key: value for key, value in changes.items() if key != "input_hw"}
    new = entry(name, network=replace(tiny_network, **sizes), **info)
    with pytest.raises(ValueError, match=rf"share dense_preprocess and must agree on it, got .*{seen}"):
        write_models(two_depths, new, engine=None, facts={})
    assert contents(two_depths) == before


def test_alone_under_its_name_a_network_may_change_the_preprocessor(entry, tmp_path):
    write_models(tmp_path, entry("2b"), engine=None, facts={})
    write_models(tmp_path, entry("2b", preprocess="lite"), engine=None, facts={})
    assert "lite" in (tmp_path / "dense_preprocess" / "config.pbtxt").read_text()


def test_poses_must_agree_on_the_largest_batch_too(entry, golden_networks, tmp_path):
    pose = golden_networks["pose17"]
    write_models(tmp_path, entry(network=pose), engine=None, facts={})
    with pytest.raises(ValueError, match=r"pose_2b and pose share pose_preprocess .*'max_batch_size': 8"):
        check_models(tmp_path, entry("2b", Serving(max_batch_size=8), pose))


def test_dense_networks_may_have_batches_of_their_own(entry, tmp_path):
    write_models(tmp_path, entry(), engine=None, facts={})
    check_models(tmp_path, entry("2b", Serving(max_batch_size=8)))


def test_only_networks_without_a_name_complete_human_and_people_pose(
    entry, golden_networks, install_detector, tmp_path
):
    install_detector(tmp_path)
    for task in ("depth", "normal", "seg", "pose17"):
        network = golden_networks[task]
        write_models(tmp_path, entry("2b", network=network), engine=None, facts={})
    assert not {"human", "people_pose"} & folders(tmp_path)


def test_all_files_of_an_engine_are_taken_and_those_beside_it(entry, tmp_path):
    for name in ("engine/model.onnx", "engine/model.onnx.data", "beside/parity.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    new = entry("2b", runtime="onnx")
    models = tmp_path / "models"
    write_models(models, new, engine=tmp_path / "engine", beside=tmp_path / "beside", facts={"torch": "x"})
    assert {str(path) for path in contents(models / "depth_2b_engine")} == {
        "1/model.onnx",
        "1/model.onnx.data",
        "parity.npz",
        "manifest.json",
        "config.pbtxt",
    }


def test_a_model_refers_to_nothing_outside_its_folder(two_depths):
    for path in two_depths.rglob("*"):
        assert not path.is_symlink()
        if path.suffix in {".pbtxt", ".py"}:
            assert str(two_depths.parent) not in path.read_text()
            assert ".." not in path.read_text()


def test_object_storage_would_keep_every_folder(two_depths):
    for version in two_depths.glob("*/1"):
        assert any(version.iterdir()), version


def test_every_released_task_takes_a_name():
    assert all(spec.named("x").name == f"{task}_x" for task, spec in first_recipes().items())
