"""Which precision an engine gets: the one that was asked for, or the fastest that is close enough."""

from __future__ import annotations

import json

import pytest
import torch

from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.tolerances import limits
from sapiens_export import candidates
from sapiens_export.candidates import ParityError
from sapiens_export.engines.precisions import batch_seconds, precisions
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.parity.report import Measure, ParityReport
from sapiens_export.weights.sources import source_from_seed

BOTH = ("float16", "bfloat16")


@pytest.mark.parametrize(
    ("runtime", "wanted", "on_cpu", "on_hopper", "on_turing"),
    [
        ("python", None, ("float32",), BOTH, ("float16",)),
        ("aoti", None, ("float32",), BOTH, ("float16",)),
        ("tensorrt", None, ("bfloat16",), ("bfloat16",), ("bfloat16",)),
        ("python", "auto", BOTH, BOTH, ("float16",)),
        ("tensorrt", "auto", BOTH, BOTH, ("float16",)),
        ("onnx", "auto", ("float16",), ("float16",), ("float16",)),
        ("python", "float32", ("float32",), ("float32",), ("float32",)),
    ],
)
def test_a_gpu_computes_in_half_precision_unless_told_otherwise(
    runtime, wanted, on_cpu, on_hopper, on_turing, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precisions(runtime, wanted) == on_cpu
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, expected in (((9, 0), on_hopper), ((7, 5), on_turing)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        assert precisions(runtime, wanted) == expected


def test_the_fastest_engine_that_is_close_enough_is_installed(tiny_network, tmp_path, monkeypatch):
    times, steps = iter((0.002, 0.001)), []
    monkeypatch.setattr(candidates, "batch_seconds", lambda _engine, pixels: next(times) * len(pixels))
    options = EngineOptions(precision="auto")
    export = export_engine(source_from_seed(tiny_network, 0), tmp_path, options, on_step=steps.append)
    assert export.info.precision == "bfloat16"
    assert export.parity.is_within(0.5)
    assert [step for step in steps if step.startswith("building")] == [
        f"building the python engine in {precision}" for precision in BOTH
    ]
    manifest = json.loads((tmp_path / "depth_engine" / "manifest.json").read_text())
    assert manifest["precision"] == "bfloat16"
    assert list(manifest["engine_sha256"]) == ["model.pt"]


def test_what_nobody_asked_for_must_keep_to_half_the_limits(tiny_network, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "AUTO_SHARE", 0.0)
    with pytest.raises(ParityError, match=r"; .*, of which 0% may be taken up; add --precision float32"):
        export_engine(source_from_seed(tiny_network, 0), tmp_path, EngineOptions(precision="auto"))
    assert not list(tmp_path.iterdir())


def test_a_report_tells_whether_a_share_of_the_limits_is_kept():
    report = ParityReport("cpu", 2, (Measure("mean_error", 0.004, 0.01), Measure("max_error", 9.0, None)))
    assert [report.is_within(share) for share in (1, 0.5, 0.3)] == [True, True, False]


def test_a_batch_is_timed_after_a_first_one():
    seen = []
    assert batch_seconds(lambda pixels: seen.append(pixels) or (), "pixels") >= 0
    assert seen == ["pixels"] * 6


@pytest.mark.parametrize("untrained", [False, True])
def test_float32_on_a_gpu_is_not_judged_by_one_cell(untrained):
    depth = first_recipe(Task.DEPTH)
    on_cpu = limits(depth, "float32", untrained=untrained)
    on_gpu = limits(depth, "float32", untrained=untrained, is_gpu=True)
    assert "max_error" not in on_gpu
    assert (on_gpu["p999_error"], on_gpu["lost_levels"]) == (on_cpu["max_error"], on_cpu["lost_levels"])
    assert on_gpu["mean_error"] == pytest.approx(on_cpu["max_error"] / 10)
    for precision in BOTH:
        half = limits(depth, precision, untrained=untrained)
        assert limits(depth, precision, untrained=untrained, is_gpu=True) == half
