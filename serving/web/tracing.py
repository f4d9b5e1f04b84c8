"""OpenTelemetry: a span a request, in the trace of whoever called, exported where OpenTelemetry's own variables say.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `..._TRACES_ENDPOINT`) turns it on; `OTEL_TRACES_SAMPLER` and the rest work
as in any program. Without an endpoint nothing is made and nothing is imported.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serving.web.messages import Request

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
CARRIED = (b"traceparent", b"tracestate")
SERVER_ERROR = 500
NS_A_S = 1_000_000_000


class Tracing:
    """Exports spans in batches, from a thread of OpenTelemetry's."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  see the module
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        name = os.environ.get("OTEL_SERVICE_NAME", "ct-serving")
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("ct.serving")
        self._extract = TraceContextTextMapPropagator().extract
        self._kind = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)

    def record(
        self, request: Request, name: str, at: float, seconds: float, status: int, more: Mapping[str, Any]
    ) -> None:
        """A span of a request that has been answered.

        Args:
            request: whose headers carry the caller's context.
            name: of the span.
            at: when it arrived, Unix seconds.
            seconds: until it was answered.
            status: of the answer.
            more: attributes beside HTTP's.
        """
        carrier = {name.decode(): value.decode("latin-1") for name, value in request.headers if name in CARRIED}
        attributes = {
            "http.request.method": request.method,
            "url.path": request.path,
            "http.response.status_code": status,
            **{key: value for key, value in more.items() if value is not None},
        }
        began = int(at * NS_A_S)
        span = self._tracer.start_span(
            name, context=self._extract(carrier), kind=self._kind, attributes=attributes, start_time=began
        )
        if status >= SERVER_ERROR:
            span.set_status(self._failed)
        span.end(began + int(seconds * NS_A_S))

    def stop(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def configured() -> Tracing | None:
    """Tracing where an endpoint is set, else None."""
    return Tracing() if any(os.environ.get(name) for name in ENDPOINTS) else None
