"""Steps that several engines share, and manifests that cannot be read."""

import json
from dataclasses import replace

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from typer import Typer
from typer.testing import CliRunner

from sapiens_core.contract.model_info import ModelInfo
from sapiens_export.commands.export import export_command
from sapiens_export.networks.config import DetectorConfig
from sapiens_export.repository.manifest import InstalledEngine, installed_engine
from sapiens_export.repository.serving import Serving, processes_at_hand
from sapiens_export.repository.write import check_models, write_models

DAMAGE = {
    "no JSON": lambda text: text[:40],
    "empty": lambda _text: "",
    "a list": lambda _text: "[]",
    "of an older release": lambda text: changed(text, format=None),
    "of a newer release": lambda text: changed(text, format=99),
    "without a network": lambda text: changed(text, network=None),
    "of another serving": lambda text: changed(text, serving={"max_batch_size": "four"}),
    "of another task": lambda text: changed(text, task="juggling"),
}


def changed(text, **facts):
    facts = {name: value for name, value in (json.loads(text) | facts).items() if value is not None}
    return json.dumps(facts)


@pytest.fixture
def entry(golden_networks):
    """A function (name of a golden network, serving, name) -> an engine that may be installed."""

    def make(network, serving=None, name=None):
        config = golden_networks[network]
        info = ModelInfo(
            config.task, "sapiens", "custom", "", "float32", "python", "full", False, "none", True, ""
        )
        return InstalledEngine(config, info, serving or Serving(), name)

    return make


def choices(repository, step):
    config = text_format.Parse(
        (repository / step / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()
    )
    (group,) = config.instance_group
    return group.count, config.dynamic_batching.default_queue_policy.max_queue_size


def write(repository, new):
    return write_models(repository, new, engine=None, facts={}).notes


CHOSEN = Serving(cpu_instances=6, max_queue_size=7)


@pytest.mark.parametrize("later", [("normal", None), ("depth", "2b"), ("seg", "other")])
def test_a_later_engine_leaves_the_choices_about_a_shared_step(later, entry, tmp_path):
    network, name = later
    write(tmp_path, entry("depth", CHOSEN))
    assert write(tmp_path, entry(network, name=name)) == ()
    assert choices(tmp_path, "dense_preprocess") == (6, 7)
    suffix = f"_{name}" if name else ""
    assert choices(tmp_path, f"{network}{suffix}_postprocess") == (2, 64)


def test_the_first_engine_again_leaves_them_too(entry, tmp_path):
    write(tmp_path, entry("depth", CHOSEN))
    write(tmp_path, entry("normal"))
    assert write(tmp_path, entry("depth")) == ()
    assert choices(tmp_path, "dense_preprocess") == (6, 7)


def test_boxes_and_poses_share_their_step_likewise(entry, tmp_path):
    write(tmp_path, entry("pose17", CHOSEN))
    write(tmp_path, entry("pose17", name="2b"))
    assert choices(tmp_path, "pose_preprocess") == (6, 7)


@pytest.mark.parametrize(
    ("serving", "said", "expected"),
    [
        (Serving(cpu_instances=3), "cpu_instances from 6 to 3", (3, 7)),
        (Serving(max_queue_size=9), "max_queue_size from 7 to 9", (6, 9)),
        (Serving(cpu_instances=2, max_queue_size=64), "from 6 to 2 and max_queue_size from 7 to 64", (2, 64)),
    ],
    ids=["processes", "queue", "both"],
)
def test_changing_a_shared_step_is_possible_and_said(serving, said, expected, entry, tmp_path):
    write(tmp_path, entry("depth", CHOSEN))
    (note,) = write(tmp_path, entry("normal", serving))
    assert note.startswith("dense_preprocess, which depth share, changes ")
    assert note.endswith(said)
    assert choices(tmp_path, "dense_preprocess") == expected


def test_an_engine_alone_may_change_its_steps_without_a_word(entry, tmp_path):
    write(tmp_path, entry("depth", CHOSEN))
    assert write(tmp_path, entry("depth")) == ()
    assert choices(tmp_path, "dense_preprocess") == (2, 64)


def test_the_command_and_its_plan_say_what_changes(network_file, tmp_path):
    app = Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(export_command)
    models = tmp_path / "models"
    words = ["depth", "--random-weights", "--network", str(network_file), "--repository", str(models)]

    def run(*options):
        output = CliRunner().invoke(app, [*words, *options], env={"COLUMNS": "200"}).output
        return " ".join(output.split())

    run("--cpu-instances", "6")
    said = "dense_preprocess, which depth share, changes cpu_instances from 6 to 3"
    assert said in run("--name", "2b", "--cpu-instances", "3", "--plan")
    assert "changes" not in run("--name", "2b", "--plan")
    assert said in run("--name", "2b", "--cpu-instances", "3")
    run("--cpu-instances", "auto")
    assert choices(models, "dense_preprocess")[0] == processes_at_hand()


@pytest.mark.parametrize("name", [None, "other"])
def test_detectors_of_another_fit_do_not_share_a_preprocessor(name, entry, tmp_path):
    detector = replace(
        entry("depth"), config=DetectorConfig("rt-detr", "r18", (640, 640), 300, fit="letterbox")
    )
    write(tmp_path, replace(detector, name="first"))
    check_models(tmp_path, replace(detector, name=name))
    stretched = replace(detector, config=replace(detector.config, fit="stretch"), name=name)
    with pytest.raises(ValueError, match=r"share detect_preprocess .*'fit': 'stretch'.*'fit': 'letterbox'"):
        check_models(tmp_path, stretched)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_manifest_that_cannot_be_read_is_named(damage, entry, tmp_path):
    write(tmp_path, entry("depth"))
    manifest = tmp_path / "depth_engine" / "manifest.json"
    manifest.write_text(DAMAGE[damage](manifest.read_text()))
    with pytest.raises(ValueError, match=r"depth_engine/manifest\.json must be .*export the engine again"):
        installed_engine(tmp_path / "depth_engine")


@pytest.mark.parametrize("damage", DAMAGE)
def test_exporting_again_replaces_a_manifest_that_cannot_be_read(damage, entry, tmp_path):
    write(tmp_path, entry("depth"))
    manifest = tmp_path / "depth_engine" / "manifest.json"
    good = manifest.read_text()
    manifest.write_text(DAMAGE[damage](good))
    assert write(tmp_path, entry("depth")) == ()
    assert manifest.read_text() == good


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_damaged_manifest_of_another_engine_is_in_no_export_s_way(
    damage, entry, install_detector, tmp_path
):
    install_detector(tmp_path)
    for network in ("depth", "pose17"):
        write(tmp_path, entry(network))
    before = (tmp_path / "people_pose" / "config.pbtxt").read_text()
    for engine in ("depth_engine", "pose_engine"):
        manifest = tmp_path / engine / "manifest.json"
        manifest.write_text(DAMAGE[damage](manifest.read_text()))
    assert write(tmp_path, entry("normal")) == ()
    assert write(tmp_path, entry("depth", name="2b")) == ()
    (note,) = install_detector(tmp_path, serving=Serving(max_batch_size=3)).notes
    assert note.startswith("people_pose is left as it is: ")
    assert "pose_engine/manifest.json must be" in note
    assert (tmp_path / "people_pose" / "config.pbtxt").read_text() == before
    assert write(tmp_path, entry("pose17", Serving(people_instances=3))) == ()
    assert (tmp_path / "people_pose" / "config.pbtxt").read_text() != before


@pytest.mark.parametrize("config", ["", "name: {", "\x00", 'name: "dense_preprocess"'])
def test_the_damaged_config_of_a_shared_step_is_written_anew(config, entry, tmp_path):
    write(tmp_path, entry("depth"))
    good = (tmp_path / "dense_preprocess" / "config.pbtxt").read_text()
    (tmp_path / "dense_preprocess" / "config.pbtxt").write_text(config)
    write(tmp_path, entry("normal"))
    assert (tmp_path / "dense_preprocess" / "config.pbtxt").read_text() == good
