"""`sapiens plan`: figures that were counted by hand, and sources that say what is quoted."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sapiens_client.cli.main import app_with
from sapiens_export.capacity import facts
from sapiens_export.capacity.fleet import Wish, fleet_plan
from sapiens_export.capacity.queueing import wait_quantile_s, waiting_share
from sapiens_export.networks.config import released_config

MEASUREMENTS = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
COMMAND = ("plan", "--task", "depth", "--size", "1b", "--rate", "500", "--gpu", "h100")


@pytest.fixture(scope="module")
def config():
    return released_config("depth", "1b")


@pytest.fixture(scope="module")
def figures(config):
    return {figure.name: figure for figure in fleet_plan(config, Wish(500, "h100", 0.2))}


def told(*arguments):
    return CliRunner().invoke(app_with(["plan"]), [*COMMAND, *arguments])


def test_the_gpus_carry_the_rate(figures):
    # 5.5 TMAC are 11 TFLOP (docs/models.md); 0.4 x 989 TFLOPS are 36 of them per second.
    assert 2 * figures["network"].value == pytest.approx(11.0, abs=0.05)
    assert figures["of one GPU"].value == pytest.approx(0.4 * 989 / 11.0, rel=0.01)
    assert figures["GPUs"].value == math.ceil(500 / 0.7 / figures["of one GPU"].value) == 20
    assert figures["p99"].value <= 0.2


def test_what_comes_and_goes_is_bytes_times_rate(figures):
    assert figures["network out"].value == pytest.approx(500 * 8e-9 * (1080 * 1440 * 4 + 2 * 4))
    assert figures["CPU cores"].value == math.ceil(500 * 11.88e-3 / 0.7)
    assert figures["engines"].value == pytest.approx(20 * 2e-9 * 1.155e9, rel=0.01)


def test_features_of_windows_are_as_large_as_those_of_patches():
    patches, windows = (
        {
            each.name: each.value
            for each in fleet_plan(released_config("features", size, "sapiens2"), Wish(1, "h200"))
        }
        for size in ("1b", "1b-4k")
    )
    assert windows["results"] == patches["results"]


def test_a_tighter_p99_takes_more_gpus(config, figures):
    tight = {figure.name: figure.value for figure in fleet_plan(config, Wish(500, "h100", 0.041))}
    assert tight["GPUs"] > figures["GPUs"].value
    assert tight["p99"] <= 0.041


def test_what_was_never_measured_says_so(figures):
    assert figures["share"].basis == "assumed"
    assert "never measured" in figures["share"].source
    albedo = {each.name: each for each in fleet_plan(released_config("albedo", "0.4b"), Wish(1, "l4"))}
    assert (albedo["CPU cores"].value, albedo["CPU cores"].basis) == (None, "unknown")


@pytest.mark.parametrize(
    ("task", "step", "milliseconds"),
    [(task, step, ms) for task, steps in facts.STEP_MS.items() for step, ms in steps.items()],
)
def test_the_costs_of_steps_stand_where_the_source_says(task, step, milliseconds):
    section = MEASUREMENTS.split(
        f"### {task}, network {'free' if task == 'depth' else 'tiny'}, JPEG of 1080"
    )[1]
    (row,) = re.findall(rf"^\| {step} \| [\d.]+ \| (.*) \|$", section.split("###")[0], flags=re.MULTILINE)
    assert tuple(map(float, row.split(" | "))) == milliseconds


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        (Wish(0, "h100"), "rate must be positive, got 0"),
        (Wish(1, "tpu"), "gpu must be one of t4, .*, got 'tpu'"),
        (Wish(1, "h100", share=1.5), "share must be above 0 and at most 1, got 1.5"),
        (Wish(1, "h100", p99_s=0.001), "p99 must be at least 0.0.* s, .* got 0.001 s"),
        (Wish(1, "t4", batch_size=64), "a GPU must have more than .* GB .* a t4 has 16 GB"),
        (Wish(1e9, "h100"), "more than 10000 GPUs"),
    ],
)
def test_what_cannot_be_is_refused_in_words(config, wish, sentence):
    with pytest.raises(ValueError, match=sentence):
        fleet_plan(config, wish)


def test_one_server_waits_as_textbooks_say():
    # One server that is busy half of the time: half find it so.
    assert waiting_share(1, 0.5) == pytest.approx(0.5)
    # Erlang's C for two servers and a load of one: one third.
    assert waiting_share(2, 1.0) == pytest.approx(1 / 3)
    assert wait_quantile_s(2, 1.0, 1.0, 0.5) == 0.0
    assert wait_quantile_s(2, 2.0, 1.0, 0.99) == math.inf


def test_the_command_prints_a_table_and_json(figures):
    table, document = told("--p99", "0.2"), told("--p99", "0.2", "--json")
    assert re.search(r"^ GPUs +20 .*derived", table.output, flags=re.MULTILINE)
    assert {each["name"]: each["value"] for each in json.loads(document.output)} == {
        name: pytest.approx(figure.value) for name, figure in figures.items()
    }
    assert told("--p99", "0.001").exit_code == 2
