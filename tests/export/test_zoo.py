"""The list of published weights, and `sapiens zoo`."""

import json
import re
import subprocess
import sys
from collections import Counter

import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from sapiens_core.recipes.lookup import FAMILIES, first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_export.commands.zoo import zoo_command
from sapiens_export.networks.config import released_network
from sapiens_export.networks.sapiens import SapiensNetwork
from sapiens_export.networks.sapiens2_config import released_sapiens2
from sapiens_export.weights.zoo import ZOO, zoo_entry

SUFFIXES = {
    "original": ".pth",
    "clean": "_clean.pth",
    "torchscript": "_torchscript.pt2",
    "bfloat16": "_bfloat16.pt2",
}
HUB_NAMES = {**{task: task.value for task in Task}, Task.FEATURES: "pretrain"}


def name_of(entry):
    return "-".join(filter(None, (entry.task.value, entry.size, entry.labels)))


FIRST = [each for each in ZOO if each.family == "sapiens"]
SECOND = [each for each in ZOO if each.family == "sapiens2"]
every_entry = pytest.mark.parametrize("entry", FIRST, ids=name_of)


@pytest.fixture
def run():
    app = Typer(pretty_exceptions_enable=False)
    app.command()(zoo_command)
    return lambda *arguments: CliRunner().invoke(app, arguments)


@every_entry
def test_there_is_an_architecture_for_all_weights(entry):
    (variant,) = (variant for variant in first_recipe(entry.task).variants if variant.labels == entry.labels)
    config = released_network(entry.task, entry.size, variant=variant)
    assert (config.size, config.input_hw) == (entry.size, entry.input_hw)
    with torch.device("meta"):
        network = SapiensNetwork(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == entry.num_parameters


@every_entry
def test_the_formats_of_a_network_differ_in_their_suffix(entry):
    stem = entry.file.name.removesuffix(".pth")
    assert re.fullmatch(rf"sapiens_{entry.size}_[A-Za-z_]*(epoch|AP|mIoU)_[0-9a-z_]+", stem)
    assert {form: file.name for form, file in entry.files.items()} == {
        form: stem + SUFFIXES[form] for form in entry.files
    }


@every_entry
def test_a_licence_is_stated_for_weights_of_the_first_publisher_only(entry):
    stated = entry.file.repository.startswith("facebook/")
    assert entry.licence == (FAMILIES["sapiens"].licence if stated else "not stated")


@pytest.mark.parametrize("entry", [each for each in FIRST if each.licence != "not stated"], ids=name_of)
def test_a_repository_of_the_first_publisher_is_named_after_what_it_holds(entry):
    name = f"facebook/sapiens-{HUB_NAMES[entry.task]}-{entry.size}"
    for form, file in entry.files.items():
        assert file.repository == (name if form in ("original", "clean") else f"{name}-{form}")
        assert file.path == file.name


@every_entry
def test_the_accuracy_in_a_file_name_is_the_one_stated(entry):
    figure = re.search(r"(?:AP|mIoU)_(\d+)", entry.file.name)
    assert (figure is None) == (entry.accuracy is None)
    if figure and entry.file.name != "sapiens_2b_coco_wholebody_best_coco_wholebody_AP_745.pth":
        assert figure[1] == str(entry.accuracy.value).replace(".", "")


def test_the_published_table_counts_where_a_file_name_rounds_otherwise():
    assert zoo_entry(Task.POSE, "2b", "coco_wholebody").accuracy.value == 74.4


def test_nothing_is_listed_twice():
    keys = Counter((entry.family, entry.task, entry.size, entry.labels) for entry in ZOO)
    paths = Counter((file.repository, file.path) for entry in ZOO for file in entry.files.values())
    assert {*keys.values(), *paths.values()} == {1}
    assert (len(FIRST), len(SECOND)) == (26, 17 + 6)  # the second's with heads, and bare backbones


def test_all_weights_of_the_second_family_have_an_architecture():
    for entry in SECOND:
        config = released_sapiens2(entry.task, entry.size)
        assert (config.labels, config.input_hw) == (entry.labels, entry.input_hw)


def test_files_of_the_second_family_are_named_after_what_they_hold():
    for entry in SECOND:
        task = HUB_NAMES[entry.task]
        assert entry.licence == "Sapiens2"
        paths = {"original": f"sapiens2_{entry.size.replace('-', '_')}_{task}.safetensors"}
        if entry.size != "1b-4k":  # which transformers has no class of
            paths["transformers"] = "model.safetensors"
        assert {form: file.path for form, file in entry.files.items()} == paths
        repositories = {file.repository for file in entry.files.values()}
        assert repositories == {f"facebook/sapiens2-{task}-{entry.size}"}


def test_commits_of_the_second_family_are_those_that_somebody_has_fetched():
    known = {(entry.task.value, entry.size) for entry in SECOND if entry.file.revision}
    pose = {("pose", size) for size in ("0.4b", "0.8b", "1b", "5b")}
    seg = {("seg", size) for size in ("0.4b", "0.8b", "1b")}
    assert known == {*pose, *seg, ("normal", "0.4b"), ("normal", "1b"), ("matting", "1b")}
    for entry in SECOND:
        (revision,) = {file.revision for file in entry.files.values()}
        assert revision is None or re.fullmatch(r"[0-9a-f]{40}", revision)


@pytest.mark.parametrize(
    ("task", "size", "num_bytes"),
    [
        ("pose", "1b", 6_079_194_752),
        ("pose", "5b", 20_480_899_148),
        ("seg", "0.4b", 1_626_451_404),
        ("seg", "1b", 5_883_353_380),
        ("normal", "0.4b", 1_813_476_476),
        ("normal", "1b", 6_157_412_276),
        ("matting", "1b", 6_157_412_312),
    ],
)
def test_published_files_are_float32_and_their_names(task, size, num_bytes):
    """The sizes are those that programs have which fetch these files; the rest are names of tensors."""
    assert 0 < num_bytes - zoo_entry(Task(task), size, family="sapiens2").num_bytes < 200_000


def test_accuracy_of_the_second_family_is_what_its_paper_is_quoted_with():
    stated = {(each.task.value, each.size): each.accuracy.value for each in SECOND if each.accuracy}
    assert stated == {
        **{("seg", "0.4b"): 79.5, ("seg", "1b"): 81.7, ("seg", "5b"): 82.5},
        **{("pose", "1b"): 80.4, ("pose", "5b"): 82.3},
        **{("normal", "0.4b"): 8.63, ("normal", "5b"): 6.73},
    }


def test_sizes_of_the_second_family_have_the_parameters_of_their_names(golden2_folder):
    models = json.loads((golden2_folder / "state_dict_manifest.json").read_text())["models"]
    for entry in SECOND:
        assert entry.num_parameters == models[f"{HUB_NAMES[entry.task]}-{entry.size}"]["num_params"]


def test_a_size_that_both_families_have_is_the_first_ones_unless_told():
    assert zoo_entry(Task.SEG, "1b").family == "sapiens"
    assert zoo_entry(Task.SEG, "1b", family="sapiens2").labels == "sapiens2"
    assert zoo_entry(Task.SEG, "1b", "sapiens2").family == "sapiens2"
    assert zoo_entry(Task.SEG, "0.4b").family == "sapiens2"
    with pytest.raises(ValueError, match=r"weights of albedo must be one of none, got 0\.4b"):
        zoo_entry(Task.ALBEDO, "0.4b")


def test_the_default_set_is_the_one_of_the_task():
    assert zoo_entry(Task.POSE, "1b").labels == "goliath"
    assert zoo_entry(Task.DEPTH, "2b").file.repository == "facebook/sapiens-depth-2b"


@pytest.mark.parametrize(
    ("task", "size", "labels", "message"),
    [
        (
            Task.SEG,
            "2b",
            None,
            "1b goliath, 0.4b sapiens2, .*, 5b sapiens2, got 2b goliath; give a weight file",
        ),
        (Task.DEPTH, "9b", None, "one of 0.3b, 0.6b, 1b, 2b, got 9b"),
        (Task.SEG, "1b", "lip", "got 1b lip"),
        (Task.DETECT, "1b", None, "weights of detect must be one of none"),
    ],
)
def test_weights_that_are_not_published_are_told_from_those_that_are(task, size, labels, message):
    with pytest.raises(ValueError, match=message):
        zoo_entry(task, size, labels)


def test_the_table_names_all_weights_of_a_task(run):
    result = run("--task", "pose")
    assert result.exit_code == 0, result.output
    for entry in ZOO:
        assert (entry.file.name in result.stdout) is (entry.task is Task.POSE)
    assert "COCO AP 79.6" in result.stdout
    assert "f5fed8b97b99698d5eea1d14ff0855d0b4c3f000" in result.stdout
    assert "Where no commit is told" in result.stderr
    assert "not stated" in result.stdout
    assert "8.7 GB" in result.stdout


def test_who_asks_for_detectors_is_told_where_they_are(run):
    result = run("--task", "detect")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "`sapiens export detect` takes NanoDet-g" in result.stderr
    assert run("--task", "detect", "--json").stdout == "[]\n"


def test_programs_get_every_file(run):
    rows = json.loads(run("--json").stdout)
    assert len(rows) == len(ZOO)
    for row, entry in zip(rows, ZOO, strict=True):
        assert row["files"].keys() == entry.files.keys()
        assert row["files"]["original"]["path"] == entry.file.path
        assert tuple(row["input_hw"]) == entry.input_hw
        assert row["licence"] == entry.licence
        assert row["num_parameters"] == entry.num_parameters


def test_the_list_needs_nothing_of_the_export_extra():
    program = """
import sys
for name in ("torch", "huggingface_hub", "safetensors", "transformers"):
    sys.modules[name] = None
from sapiens_client.cli import main as cli
sys.argv = ["sapiens", "zoo", "--task", "depth"]
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "sapiens_2b_render_people_epoch_25.pth" in done.stdout
