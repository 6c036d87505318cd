"""Write the Grafana dashboard from the metrics that the product has: `make dashboard`."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableOption

from sapiens_core.contract.metrics import FAILED, PERSONS, REFUSED, STEP_SECONDS
from sapiens_core.recipes.lookup import first_recipes

PATH = Path(__file__).parents[1] / "docker/observability/grafana/dashboards/sapiens.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
HERE = 'replica=~"$replica"'
Panel = tuple[str, str, str, str]  # title, query, legend, unit
GPU = "GPU"  # the row whose metrics a server without one does not have


def steps() -> str:
    """Return a regular expression for the models that are steps of others; the rest is what clients ask."""
    named = {step.name.rpartition("_")[2] for recipe in first_recipes().values() for step in recipe.steps}
    return f".+_({'|'.join(sorted(named))})"


def rate(metric: str, by: str, more: str = "") -> str:
    """Return the growth of a counter per second, summed."""
    return f"sum by ({by}) (rate({metric}{{{HERE}{more}}}[1m]))"


def quantile(metric: str, share: float) -> str:
    """Return a quantile of a histogram per model."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', 'le, model')})"


def mean(total: str, count: str, by: str, more: str = "") -> str:
    """Return the mean of what was counted per model; nothing where nothing was."""
    return f"{rate(total, by, more)} / ({rate(count, by, more)} > 0)"


def rows() -> dict[str, list[Panel]]:
    """Return the panels of every row."""
    return {"Requests": requests(), "Where time goes": times(), "Replicas": replicas(), GPU: gpus()}


def requests() -> list[Panel]:
    """Return how much is asked, and with what success."""
    asked = f', model!~"{steps()}"'
    seconds = mean("nv_inference_request_duration_us", "nv_inference_request_success", "model", asked)
    successes = rate("nv_inference_request_success", "model", asked)
    failures = rate("nv_inference_request_failure", "model, reason", asked)
    return [
        ("Requests per second", successes, "{{model}}", "reqps"),
        ("Mean duration", f"{seconds} / 1e6", "{{model}}", "s"),
        ("Failed requests per second", failures, "{{model}} {{reason}}", "reqps"),
        ("Refused inputs per second", rate(REFUSED.name, "reason"), "{{reason}}", "reqps"),
    ]


def times() -> list[Panel]:
    """Return what requests wait for, and what steps take."""
    waiting = f"sum by (model) (triton:waiting_requests:rate30s{{{HERE}}})"
    persons = mean(f"{PERSONS.name}_sum", f"{PERSONS.name}_count", "model")
    return [
        ("Waiting requests", waiting, "{{model}}", "short"),
        ("Share of waiting", f"triton:queue_ratio:rate30s{{{HERE}}}", "{{replica}}", "percentunit"),
        ("Requests per batch", f"triton:batch_size:rate30s{{{HERE}}}", "{{model}} {{replica}}", "short"),
        ("Step, median", quantile(STEP_SECONDS.name, 0.5), "{{model}}", "s"),
        ("Step, 99th percentile", quantile(STEP_SECONDS.name, 0.99), "{{model}}", "s"),
        ("Failures of steps per second", rate(FAILED.name, "model"), "{{model}}", "reqps"),
        ("Persons per image", persons, "{{model}}", "short"),
    ]


def replicas() -> list[Panel]:
    """Return how each server fares."""
    restarts = f"sum by (replica, cause) (increase(sapiens_serve_restarts_total{{{HERE}}}[1h]))"
    canaries = rate("sapiens_serve_canary_failures_total", "replica, model")
    return [
        ("Restarts in an hour", restarts, "{{replica}} {{cause}}", "short"),
        ("Failed canaries per second", canaries, "{{replica}} {{model}}", "short"),
        ("In this phase for", f"sapiens_serve_phase_seconds{{{HERE}}}", "{{replica}} {{phase}}", "s"),
        ("Processors", f"nv_cpu_utilization{{{HERE}}}", "{{replica}}", "percentunit"),
        ("Memory of the machine", f"nv_cpu_memory_used_bytes{{{HERE}}}", "{{replica}}", "bytes"),
    ]


def gpus() -> list[Panel]:
    """Return how each GPU fares."""
    return [
        ("GPU", f"nv_gpu_utilization{{{HERE}}}", "{{replica}} {{gpu_uuid}}", "percentunit"),
        ("GPU memory", f"nv_gpu_memory_used_bytes{{{HERE}}}", "{{replica}} {{gpu_uuid}}", "bytes"),
        ("GPU power", f"nv_gpu_power_usage{{{HERE}}}", "{{replica}} {{gpu_uuid}}", "watt"),
    ]


def states() -> list[tuple[str, str]]:
    """Return the numbers at the top."""
    return [
        ("Replicas", f"count(sapiens_serve_ready{{{HERE}}})"),
        ("Ready", f"sum(sapiens_serve_ready{{{HERE}}})"),
        ("Draining", f"sum(sapiens_serve_draining{{{HERE}}})"),
        ("Requests under way or waiting", f"sum(nv_inference_pending_request_count{{{HERE}}})"),
    ]


def text() -> str:
    """Return the dashboard as Grafana's JSON."""
    board = (
        dashboard.Dashboard("Sapiens on Triton")
        .uid("sapiens")
        .tags(["sapiens", "triton"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .with_variable(
            dashboard.QueryVariable("replica")
            .datasource(SOURCE)
            .query("label_values(sapiens_serve_ready, replica)")
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(VariableOption(text="All", value="$__all"))
        )
    )
    for title, query in states():
        panel = stat.Panel().title(title).datasource(SOURCE).span(6).height(4)
        board = board.with_panel(panel.with_target(prometheus.Dataquery().ref_id("A").expr(query).instant()))
    for row, panels in rows().items():
        board = board.with_row(dashboard.Row(row))
        for title, query, legend, unit in panels:
            target = prometheus.Dataquery().ref_id("A").expr(query).legend_format(legend)
            panel = timeseries.Panel().title(title).datasource(SOURCE).unit(unit).min(0).span(8).height(7)
            board = board.with_panel(panel.with_target(target))
    return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
    sys.stderr.write(f"wrote {PATH}\n")
