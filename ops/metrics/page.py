"""The page about metrics, docs/metrics.md, from their definitions. Knows nothing of where it is written."""

from __future__ import annotations

from ops.metrics.definitions import MOST_VALUES, SECTIONS, Definition

PAGE = "metrics.md"


def page() -> str:
    """The page as Markdown."""
    sections = "\n".join(_section(title, metrics) for title, metrics in SECTIONS.items())
    return _PAGE.replace("{{sections}}", sections.strip()).replace("{{most}}", str(MOST_VALUES))


def _section(title: str, metrics: tuple[Definition, ...]) -> str:
    rows = "".join(map(_row, metrics))
    return f"## {title}\n\n| Metric | Type | Unit | Of | Labels | Meaning |\n|---|---|---|---|---|---|\n{rows}"


def _row(metric: Definition) -> str:
    labels = "; ".join(_label(metric, name) for name in metric.labels)
    processes = ", ".join(metric.processes)
    return f"| `{metric.full_name}` | {metric.kind} | {metric.unit} | {processes} | {labels} | {metric.help} |\n"


def _label(metric: Definition, name: str) -> str:
    values = metric.labels[name]
    return f"`{name}`: " + (metric.bound if values is None else ", ".join(f"`{value}`" for value in values))


_PAGE = """\
# Metrics

What worker, learner and embedder say of themselves on `/metrics`, in Prometheus' text format. This page is generated
from `ops/metrics/definitions.py` by `driftline metrics > docs/metrics.md`; a test fails when they drift apart.

- Pages are served when a port is set: `driftline worker --web-port 8081` (or `DRIFTLINE_WORKER_WEB_PORT`),
  `driftline learn --web-port 8082`, `driftline embed --web-port 8083`. Each process says its own figures: add them up.
- One prefix, base units (seconds, ratios from 0 to 1), `_total` on counters only. No user and no item is ever in a
  label. A value that a label may not have is counted as `other`, and an open label has at most {{most}} series.
- What is not there is absent, never 0: an age before the first release, recall before it was measured, anything of the
  estimators on a learner that stands by. Alerts on absence need `absent()`.
- Counters begin at 0 with the process; a batch that has to be repeated after a failed commit adds to the stages again,
  but never to the events and their latency.
- The usual `process_…` and `python_…` figures stand beside these.

Event → published, by stage, mean seconds an event, all workers together:

    sum by (stage) (rate(driftline_stage_seconds_sum[5m]))
      / scalar(sum(rate(driftline_event_latency_seconds_count[5m])))

{{sections}}
"""
