"""The rules for Prometheus, by its own tools."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml
from live import OBSERVABILITY


def promtool(*words: object, folder=OBSERVABILITY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *map(str, words)], cwd=folder, capture_output=True, text=True, check=False
    )


def rules(file: str) -> list[dict[str, object]]:
    groups = yaml.safe_load((OBSERVABILITY / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_config_and_rules_are_valid():
    for words in (("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml", "alerts.yml")):
        checked = promtool(*words)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_rules_say_of_made_up_series_what_they_should():
    checked = promtool("test", "rules", "rules_test.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("alert", [str(rule["alert"]) for rule in rules("alerts.yml")])
def test_no_alert_can_fall_silent_unnoticed(alert, tmp_path):
    folder = shutil.copytree(OBSERVABILITY, tmp_path / "observability")
    path = folder / "alerts.yml"
    config = yaml.safe_load(path.read_text())
    for group in config["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] != alert]
    path.write_text(yaml.safe_dump(config))
    assert promtool("test", "rules", "rules_test.yml", folder=folder).returncode != 0


@pytest.mark.parametrize("name", [str(rule["record"]) for rule in rules("rules.yml")])
def test_every_recorded_series_has_an_expectation(name):
    tests = yaml.safe_load((OBSERVABILITY / "rules_test.yml").read_text())["tests"]
    assert name in {each["expr"] for test in tests for each in test.get("promql_expr_test", ())}
