"""Spans of OpenTelemetry around requests, in programs that use it; in others nothing is loaded or done."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from sapiens_client.version import sdk_version

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OtelSpan

    from sapiens_client.errors import SapiensError

_SERVICE = "inference.GRPCInferenceService"


class RequestSpan:
    """One request, however often it is sent.

    Args:
        span: None: the program does not use OpenTelemetry.

    Attributes:
        headers: What tells the server that its work belongs to the span; none where nobody records that.
            Triton traces whatever comes with them, also what is marked as not to be recorded.
    """

    def __init__(self, span: OtelSpan | None) -> None:
        self.headers: tuple[tuple[str, str], ...] = ()
        self._span = span
        if span is not None and span.get_span_context().trace_flags.sampled:
            from opentelemetry.trace import set_span_in_context
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            carrier: dict[str, str] = {}  # without baggage, which is the program's own
            TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
            self.headers = tuple(carrier.items())

    def answered(self, url: str, attempts: int, request_bytes: int, response_bytes: int) -> None:
        """Note who answered, at which try, and how much travelled."""
        self._note(url, attempts)
        if self._span is not None:
            self._span.set_attribute("rpc.response.status_code", "OK")
            self._span.set_attribute("sapiens.request_bytes", request_bytes)
            self._span.set_attribute("sapiens.response_bytes", response_bytes)

    def failed(self, error: SapiensError) -> None:
        """Note what the caller is told."""
        self._note(error.url or "", error.attempts)
        if self._span is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", type(error).__name__)
            self._span.set_status(StatusCode.ERROR, str(error))

    def _note(self, url: str, attempts: int) -> None:
        if self._span is None:
            return
        self._span.set_attribute("sapiens.attempts", attempts)
        host, _, port = url.rpartition(":")
        if url:
            self._span.set_attribute("server.address", host if port.isdecimal() else url)
        if port.isdecimal():
            self._span.set_attribute("server.port", int(port))


@contextmanager
def request_span(method: str, model: str, request_id: str | None) -> Iterator[RequestSpan]:
    """Open a span for a request, as a child of the caller's; it ends with the `with` block.

    It does not become the current one, so a flow may yield within.

    Args:
        method: Name of the RPC.
        model: Which model it is about, if any.
        request_id: What the server's log calls it.
    """
    if "opentelemetry.trace" not in sys.modules:  # nobody can have asked for spans
        yield RequestSpan(None)
        return
    from opentelemetry.trace import SpanKind, get_tracer

    name = f"{_SERVICE}/{method}"
    attributes = {"rpc.system.name": "grpc", "rpc.method": name}
    if model:
        attributes["sapiens.model"] = model
    if request_id:
        attributes["sapiens.request_id"] = request_id
    tracer = get_tracer("sapiens_client", sdk_version())
    span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
    try:
        yield RequestSpan(span)
    finally:
        span.end()


def no_other_span() -> AbstractContextManager[None]:
    """Return a context in which an instrumented gRPC makes no span of its own and sends no header."""
    utils = sys.modules.get("opentelemetry.instrumentation.utils")
    return nullcontext() if utils is None else utils.suppress_instrumentation()
