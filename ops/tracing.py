"""Spans of slates for OpenTelemetry: one for the way from batch to commit, in the trace of the event it answers.

Where they go is OpenTelemetry's own configuration (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, …). No user and no
item is ever in a span. Knows nothing of how a slate is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import structlog

from ops.errors import CliError
from streams.blame import way
from streams.tracing import Context, Traced, Tracer

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE = "driftline"

log = structlog.get_logger(__name__)


def open_tracer(exporter: SpanExporter | None = None) -> Tracer:
    """Return what makes spans of committed slates and sends them by `exporter`, in batches, aside.

    None: by OTLP over HTTP. Raises CliError when the packages are not installed.
    """
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
    except ImportError as error:
        raise CliError(
            f"DRIFTLINE_TRACING=true, but {error.name} is not installed",
            "Install `driftline[tracing]`, or unset DRIFTLINE_TRACING.",
        ) from error
    ids = _ids()
    resource = Resource.create({"service.name": SERVICE})  # OTEL_SERVICE_NAME wins
    provider = TracerProvider(id_generator=ids, resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return _Spans(provider.get_tracer("driftline.worker"), ids)


def _ids() -> Any:
    """Ids of spans: that which the slate's headers already name (`next_span`), random ones otherwise."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        next_span: int | None = None

        def generate_span_id(self) -> int:
            named, self.next_span = self.next_span, None
            return super().generate_span_id() if named is None else named

    return Ids()


class _Spans:
    def __init__(self, tracer: trace.Tracer, ids: Any) -> None:
        self._tracer, self._ids = tracer, ids

    def __call__(self, traced: Sequence[Traced], begun: float, committing: float, committed: float) -> None:
        try:
            for slate in traced:
                self._span(slate, begun, committing, committed)
        except Exception as error:  # the slates are out already: nothing of this may look like their fault
            log.error("slates were not traced", way=way(error))

    def _span(self, slate: Traced, begun: float, committing: float, committed: float) -> None:
        from opentelemetry import trace

        parent = trace.set_span_in_context(trace.NonRecordingSpan(_span_context(slate.parent)))
        self._ids.next_span = int(slate.span, 16)
        span = self._tracer.start_span(
            "recommend",
            parent,
            trace.SpanKind.CONSUMER,
            links=[trace.Link(_span_context(other)) for other in slate.links],
            start_time=_nanoseconds(begun),
            attributes={
                "messaging.system": "kafka",
                "messaging.destination.partition.id": str(slate.partition),
                "messaging.kafka.offset": slate.offset,
                "driftline.events": slate.covers,
            },
        )
        self._ids.next_span = None  # not sampled: nobody asked for it
        span.add_event("commit", timestamp=_nanoseconds(committing))
        span.end(_nanoseconds(committed))


def _span_context(context: Context) -> trace.SpanContext:
    from opentelemetry import trace

    state = trace.TraceState.from_header([context.state.decode("ascii")]) if context.state else None
    return trace.SpanContext(
        int(context.trace, 16),
        int(context.span, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(context.flags),
        trace_state=state,
    )


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
