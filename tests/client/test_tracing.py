"""Spans of a program that uses OpenTelemetry, and the headers that tell servers of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sapiens_client import AsyncSapiensClient, InferenceError, SapiensClient
from sapiens_client.testing import FakeServer, Fault

IMAGE = np.zeros((48, 64, 3), np.uint8)
INFER = "inference.GRPCInferenceService/ModelInfer"


class Switch(sampling.Sampler):
    """Records while it is on: a process keeps its provider, other tests do without spans."""

    is_on = False

    def should_sample(self, *about, **more):
        return (sampling.DEFAULT_ON if self.is_on else sampling.ALWAYS_OFF).should_sample(*about, **more)

    def get_description(self):
        return "switch"


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter, switch = InMemorySpanExporter(), Switch()
    provider = TracerProvider(sampler=switch)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    switch.is_on = True
    yield exporter
    switch.is_on = False


@pytest.fixture
def server(exporter) -> Iterator[FakeServer]:
    with FakeServer() as server, SapiensClient(server.url) as client:
        client.depth(IMAGE)  # which also asks about models
        exporter.clear()
        yield server


def infer_spans(exporter):
    return [span for span in exporter.get_finished_spans() if span.name == INFER]


def traceparents(server):
    infers = [request for request in server.requests if request.method == "ModelInfer"]
    return [request.metadata.get("traceparent") for request in infers]


def header_of(span) -> str:
    told = span.get_span_context()
    return f"00-{told.trace_id:032x}-{told.span_id:016x}-{told.trace_flags:02x}"


def test_a_request_is_a_span_under_that_of_the_caller_and_the_server_is_told(server, exporter):
    caller = trace.get_tracer("program").start_as_current_span("photo")
    with caller as parent, SapiensClient(server.url) as client:
        request_id = client.depth(IMAGE).request_id
    (span,) = infer_spans(exporter)
    assert span.parent == parent.get_span_context()
    assert span.kind is trace.SpanKind.CLIENT
    host, port = server.url.split(":")
    told = dict(span.attributes)
    assert told.pop("sapiens.request_bytes") > IMAGE.size
    assert told.pop("sapiens.response_bytes") > 48 * 64
    assert told == {
        "rpc.system.name": "grpc",
        "rpc.method": INFER,
        "rpc.response.status_code": "OK",
        "server.address": host,
        "server.port": int(port),
        "sapiens.model": "depth",
        "sapiens.request_id": request_id,
        "sapiens.attempts": 1,
    }
    assert traceparents(server)[-1] == header_of(span)


def test_a_request_that_is_sent_again_is_one_span(server, exporter):
    server.fail(Fault.QUEUE_FULL, times=2)
    with SapiensClient(server.url) as client:
        client.depth(IMAGE)
    (span,) = infer_spans(exporter)
    assert span.attributes["sapiens.attempts"] == 3
    assert traceparents(server)[-3:] == [header_of(span)] * 3


def test_a_failure_is_told_in_the_span(server, exporter):
    server.fail(Fault.INTERNAL, times=None)
    with SapiensClient(server.url) as client, pytest.raises(InferenceError):
        client.depth(IMAGE)
    (span,) = infer_spans(exporter)
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes["error.type"] == "InferenceError"
    assert span.attributes["server.address"] == "127.0.0.1"


def test_what_is_not_sampled_sends_no_context(server, exporter):
    ignored = trace.NonRecordingSpan(
        trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(0))
    )
    token = context.attach(trace.set_span_in_context(ignored))
    try:
        with SapiensClient(server.url) as client:
            client.depth(IMAGE)
    finally:
        context.detach(token)
    assert infer_spans(exporter) == []
    assert traceparents(server)[-1] is None


def test_the_caller_s_own_header_stays(server, exporter):
    own = f"00-{'ab' * 16}-{'cd' * 8}-01"
    with SapiensClient(server.url) as client:
        client.depth(IMAGE, headers={"traceparent": own})
    assert traceparents(server)[-1] == own


def test_baggage_does_not_travel(server, exporter):
    token = context.attach(baggage.set_baggage("customer", "secret"))
    try:
        with SapiensClient(server.url) as client:
            client.depth(IMAGE)
    finally:
        context.detach(token)
    assert traceparents(server)[-1]
    assert "baggage" not in server.requests[-1].metadata


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "event loop"])
def test_an_instrumented_grpc_doubles_nothing(server, exporter, is_async):
    instrumentor = GrpcAioInstrumentorClient() if is_async else GrpcInstrumentorClient()
    instrumentor.instrument()
    try:
        if is_async:
            asyncio.run(asked_by_a_task(server.url))
        else:
            with SapiensClient(server.url) as client:
                client.depth(IMAGE)
    finally:
        instrumentor.uninstrument()
    assert {span.instrumentation_scope.name for span in exporter.get_finished_spans()} == {"sapiens_client"}
    (span,) = infer_spans(exporter)
    assert traceparents(server)[-1] == header_of(span)


async def asked_by_a_task(url):
    async with AsyncSapiensClient(url) as client:
        await client.depth(IMAGE)


def test_a_program_without_opentelemetry_never_loads_it():
    words = f"""
import sys
import numpy as np
from sapiens_client import SapiensClient
from sapiens_client.testing import FakeServer
with FakeServer() as server, SapiensClient(server.url) as client:
    client.depth(np.zeros({IMAGE.shape}, np.uint8))
assert not any("traceparent" in request.metadata for request in server.requests)
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
