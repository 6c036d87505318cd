"""Spans of client and server in one trace, at a collector that a real server sends them to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from real_servers import becomes_true, running

from sapiens_client import SapiensClient
from sapiens_server import ServerOptions
from sapiens_server.options import Tracing

SPAN_ID = "cd" * 8
SOON = "--trace-config=opentelemetry,bsp_schedule_delay=100"  # [ms]


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP as JSON, which is how tritonserver sends them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: list[dict[str, object]] = []

    def of(self, request_id: str) -> dict[str, dict[str, object]]:
        """The spans of the trace that a request belongs to, by their names."""
        traces = {
            span["traceId"]
            for span in self.spans
            if {"key": "triton.request_id", "value": {"stringValue": request_id}}
            in span.get("attributes", ())
        }
        return {str(span["name"]): span for span in self.spans if span["traceId"] in traces}


class Receiver(BaseHTTPRequestHandler):
    def log_message(self, *_words: object) -> None:
        pass

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in told["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                self.server.spans += scope["spans"]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        yield collector
        collector.shutdown()


@pytest.fixture(scope="module")
def client(collector, depth_repository) -> Iterator[SapiensClient]:
    tracing = Tracing(f"http://127.0.0.1:{collector.server_port}/v1/traces")
    options = ServerOptions(arguments=(*tracing.arguments(), SOON))
    with (
        running(depth_repository, grpc_port=0, options=options) as server,
        SapiensClient(server.grpc_url) as client,
    ):
        yield client


def test_all_steps_of_a_request_belong_to_the_trace_that_came_with_it(client, collector, photo):
    steps = {"dense_preprocess", "depth_engine", "depth_postprocess"}
    untraced = client.depth(photo).request_id
    traced = []

    def has_arrived() -> bool:
        """Whether some request's spans are all there; tritonserver may lose a batch on a busy machine."""
        headers = {"traceparent": f"00-{len(traced) + 1:032x}-{SPAN_ID}-03"}
        traced.append(client.depth(photo, headers=headers).request_id)
        return any({"InferRequest", "depth", *steps} <= collector.of(each).keys() for each in traced)

    assert becomes_true(has_arrived), collector.spans
    every = (collector.of(each) for each in traced)
    spans = next(each for each in every if {"InferRequest", "depth", *steps} <= each.keys())
    assert spans["InferRequest"]["parentSpanId"] == SPAN_ID
    assert spans["depth"]["parentSpanId"] == spans["InferRequest"]["spanId"]
    assert {spans[step]["parentSpanId"] for step in steps} == {spans["depth"]["spanId"]}
    assert collector.of(untraced) == {}


def test_a_collector_that_is_gone_costs_no_request(client, collector, photo):
    collector.shutdown()
    collector.server_close()
    for _ in range(5):
        client.depth(photo, headers={"traceparent": f"00-{1:032x}-{SPAN_ID}-01"})
