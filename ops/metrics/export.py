"""From readings to Prometheus' text: each sample is put under its definition, and nothing undefined gets out.

A label's value that its definition doesn't name becomes `other`, so that no series is ever made of what a message
holds. Knows nothing of where the readings come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ops.metrics.definitions import DEFINITIONS, MOST_VALUES, OTHER, Definition
from streams.measures import Histogram

Value = float | Histogram | None
Samples = Mapping[str, Mapping[tuple[str, ...], Value]]
"""By metric, values by those of its labels, in the definition's order; None: not there, which is not zero."""

Read = Callable[[], Samples]


class Exporter(Collector):
    """Reads at every scrape; what is read is bounded by the definitions."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for name, values in self._read().items():
            definition = DEFINITIONS[name]
            bounded = _bounded(definition, values)
            if bounded:
                yield family(definition, bounded)


def metrics_page(read: Callable[[Any], Samples]) -> Callable[[Any], bytes]:
    """What makes the page of metrics of a job that `read` reads: its own, and the usual figures of the process."""

    def page(job: Any) -> bytes:
        own = CollectorRegistry()
        own.register(Exporter(lambda: read(job)))
        return generate_latest(own) + generate_latest(REGISTRY)

    return page


def family(definition: Definition, values: Mapping[tuple[str, ...], float | Histogram]) -> Metric:
    """One metric with its series."""
    names, text = list(definition.labels), definition.help
    made: Any
    match definition.kind:
        case "counter":
            made = CounterMetricFamily(definition.full_name, text, labels=names)
        case "histogram":
            made = HistogramMetricFamily(definition.full_name, text, labels=names)
        case _:  # an info is a gauge that is 1: Prometheus' own text format knows no other
            made = GaugeMetricFamily(definition.full_name, text, labels=names)
    for labels, value in values.items():
        if isinstance(value, Histogram):
            made.add_metric(labels, _buckets(value), value.sum)
        else:
            made.add_metric(labels, value)
    return made  # type: ignore[no-any-return]


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Bounds as every client library writes them, `1.0`: Prometheus 2 compares them as text, and rules name them."""
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, histogram.cumulative()), strict=True))


def _bounded(
    definition: Definition, values: Mapping[tuple[str, ...], Value]
) -> dict[tuple[str, ...], float | Histogram]:
    """Without what is not there; label values that are not allowed stand together under `other`."""
    found: dict[tuple[str, ...], float | Histogram] = {}
    for labels, value in values.items():
        if value is None:
            continue
        allowed = tuple(map(_allowed, definition.labels.values(), labels))
        if definition.bound and allowed not in found and len(found) >= MOST_VALUES and definition.kind != "info":
            allowed = (OTHER,) * len(labels)
        known = found.get(allowed)
        if known is not None and not isinstance(value, Histogram) and not isinstance(known, Histogram):
            value = known + value
        found[allowed] = value
    return found


def _allowed(known: Sequence[str] | None, value: str) -> str:
    return value if known is None or value in known else OTHER
