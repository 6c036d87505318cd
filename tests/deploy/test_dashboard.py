"""The dashboard, and every query of it and of the rules, against a live Prometheus."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator

import pytest
import yaml
from live import OBSERVABILITY
from real_servers import becomes_true

from sapiens_client import InvalidInputError, SapiensClient
from scripts import write_dashboard

METRIC = re.compile(r"\b(?:nv|sapiens|triton|up)[a-z0-9_]*(?::[a-z0-9_:]+)?\b(?=[{\[ )]|$)")
NEEDS_GPU = re.compile(r"\bnv_gpu_\w+")


def dashboard_queries() -> list[str]:
    board = json.loads(write_dashboard.PATH.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return [query.replace("$replica", ".*") for query in queries]


def rule_queries() -> list[tuple[str, str]]:
    groups = [
        group
        for file in ("rules.yml", "alerts.yml")
        for group in yaml.safe_load((OBSERVABILITY / file).read_text())["groups"]
    ]
    return [(next(iter(rule.values())), rule["expr"]) for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def busy(served, prometheus, portrait) -> Iterator[None]:
    """Callers who ask about images, some of which are refused."""
    is_over = threading.Event()

    def call() -> None:
        with SapiensClient(served.grpc_url) as client:
            while not is_over.is_set():
                client.depth(portrait)
                client.people(portrait)
                with pytest.raises(InvalidInputError):
                    client.depth(b"no image")
                is_over.wait(0.2)

    caller = threading.Thread(target=call)
    caller.start()
    yield
    is_over.set()
    caller.join()


def test_the_committed_dashboard_is_the_one_that_the_metrics_make():
    assert write_dashboard.PATH.read_text() == write_dashboard.text()


@pytest.mark.parametrize("query", dashboard_queries())
def test_every_query_of_the_dashboard_has_an_answer(query, busy, prometheus):
    if NEEDS_GPU.search(query):  # whose names are Triton's, which a server without GPU does not tell
        assert prometheus.query(query) == []
        return
    assert becomes_true(lambda: prometheus.query(query)), f"no series for {query}"


@pytest.mark.parametrize(("rule", "query"), rule_queries(), ids=[name for name, _ in rule_queries()])
def test_every_name_in_a_rule_is_one_that_a_server_tells(rule, query, busy, prometheus):
    prometheus.query(query)
    names = set(METRIC.findall(query))
    assert names
    assert becomes_true(lambda: names <= prometheus.names()), names - prometheus.names()


def test_a_busy_healthy_server_causes_no_alarm(busy, prometheus):
    assert becomes_true(lambda: prometheus.query("sapiens_serve_ready == 1"))
    loud = prometheus.query('ALERTS{alertname!="SapiensRefusingInputs"}')
    assert loud == []
