"""Spans for OpenTelemetry: under the ids that the slates' headers name, and nothing of anybody in them."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ops.errors import CliError
from ops.tracing import open_tracer
from streams.tracing import Context, Traced, span_id

PARENT = Context("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1, b"a=1")
OTHER = Context("1af7651916cd43dd8448eb211c80319c", "c7ad6b7169203331", 1)


def test_a_slate_is_a_span_of_its_events_trace_with_the_id_that_it_names() -> None:
    exporter = InMemorySpanExporter()
    tracer = open_tracer(exporter)
    slates = [
        Traced(3, offset, PARENT, span_id(PARENT, 3, offset), (OTHER,) if offset == 17 else (), 2)
        for offset in (17, 18)
    ]
    tracer(slates, 100.0, 100.5, 101.0)
    tracer._tracer.span_processor.force_flush()  # type: ignore[attr-defined]
    spans = exporter.get_finished_spans()
    assert [f"{span.context.span_id:016x}" for span in spans] == [slate.span for slate in slates]
    first = spans[0]
    assert f"{first.context.trace_id:032x}" == PARENT.trace
    assert first.parent is not None and f"{first.parent.span_id:016x}" == PARENT.span
    assert [f"{link.context.trace_id:032x}" for link in first.links] == [OTHER.trace]
    assert (first.start_time, first.end_time) == (100 * 10**9, 101 * 10**9)
    assert first.events[0].timestamp == 100.5 * 10**9
    assert dict(first.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 17,
        "driftline.events": 2,
    }


def test_what_cannot_be_traced_harms_nobody() -> None:
    exporter = InMemorySpanExporter()
    tracer = open_tracer(exporter)
    tracer([Traced(0, 1, PARENT, "no hex", (), 1)], 1.0, 1.0, 1.0)
    tracer._tracer.span_processor.force_flush()  # type: ignore[attr-defined]
    assert exporter.get_finished_spans() == ()


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(CliError, match="is not installed") as told:
        open_tracer()
    assert "driftline[tracing]" in told.value.next_step
