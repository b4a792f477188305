"""The Grafana dashboard as JSON, from a table of panels: what each is called, what it asks Prometheus, in which unit.

Knows the metrics by name only; a test finds every name among the definitions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_COLUMNS, _HEIGHT = 24, 7


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `queries` are pairs of PromQL and the legend of its lines; `unit` as Grafana calls it."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    meaning: str = ""
    red: float | None = None
    """From here on a single number is red; below it green."""


def _quantiles(metric: str, by: str = "", legend: str = "") -> tuple[tuple[str, str], ...]:
    grouped = f"le, {by}" if by else "le"
    return tuple(
        (
            f"histogram_quantile({q}, sum by ({grouped}) (rate({metric}_bucket[$__rate_interval])))",
            f"{legend}p{q * 100:g}",
        )
        for q in ((0.5, 0.99) if not by else (0.99,))
    )


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Is it healthy?",
        (
            Panel("Late events, an hour", (("driftline:late_events:ratio1h", ""),), "percentunit", "stat", 4, red=0.01),
            Panel("Events waiting", (("sum(driftline_lag_events)", ""),), "short", "stat", 4, red=5000),
            Panel("Partitions served", (("count(driftline_lag_events)", ""),), "short", "stat", 4),
            Panel("Release's age", (('max(driftline_age_seconds{of="release"})', ""),), "s", "stat", 4, red=86400),
            Panel("Estimator's age", (('max(driftline_age_seconds{of="estimator"})', ""),), "s", "stat", 4, red=900),
            Panel("Hit rate", (("max(driftline_hit_ratio)", ""),), "percentunit", "stat", 4, "of recent slates"),
        ),
    ),
    (
        "Events and slates",
        (
            Panel("Event to published slate", _quantiles("driftline_event_latency_seconds"), "s"),
            Panel("Stages, p99", _quantiles("driftline_stage_seconds", "stage", "{{stage}} "), "s"),
            Panel(
                "Rates",
                (
                    ("sum(rate(driftline_events_total[$__rate_interval]))", "events"),
                    ("sum by (arm) (rate(driftline_slates_total[$__rate_interval]))", "slates, {{arm}}"),
                    ("sum(rate(driftline_coalesced_events_total[$__rate_interval]))", "answered with a later one"),
                ),
                "ops",
            ),
            Panel("Waiting, by partition", (("driftline_lag_events", "{{partition}}"),)),
            Panel("Batch", _quantiles("driftline_batch_events"), "short"),
            Panel(
                "Dead letters",
                (("sum by (reason) (rate(driftline_dead_letters_total[$__rate_interval]))", "{{reason}}"),),
                "ops",
            ),
            Panel("Partitions", (("sum by (status) (driftline_partitions)", "{{status}}"),)),
            Panel(
                "Retakes",
                (("sum by (kind) (rate(driftline_retakes_total[$__rate_interval]))", "{{kind}}"),),
                "ops",
                meaning="partitions taken over again after a failure",
            ),
            Panel(
                "Caches of attention",
                (("sum by (result) (rate(driftline_cache_lookups_total[$__rate_interval]))", "{{result}}"),),
                "ops",
            ),
        ),
    ),
    (
        "Are they right, unbiased, fair?",
        (
            Panel(
                "Propensities",
                (
                    ("max(driftline_propensity_calibration_error_ratio)", "calibration error"),
                    ("max(driftline_propensity_effective_sample_ratio)", "effective sample"),
                    ("max(driftline_propensity_clipped_weight_ratio)", "clipped weight"),
                ),
                "percentunit",
            ),
            Panel(
                "Index: recall against exact search",
                (("driftline_index_recall_ratio", "{{statistic}}"),),
                "percentunit",
            ),
            Panel(
                "Diversity and reach",
                (
                    *_quantiles("driftline_slate_diversity_ratio", legend="diversity, "),
                    ("max(driftline_catalogue_reach_ratio)", "reach"),
                ),
                "percentunit",
            ),
            Panel("Exposure by group", (("max by (group) (driftline_exposure_ratio)", "{{group}}"),), "percentunit"),
            Panel("Fairness gap", (("max(driftline_fairness_gap_ratio)", "gap"),), "percentunit"),
            Panel("Drift alarms", (("sum by (signal) (increase(driftline_drift_alarms_total[1h]))", "{{signal}}"),)),
        ),
    ),
    (
        "Learning",
        (
            Panel("Loss of the trainer", (("max(driftline_trainer_loss)", "loss"),), "none"),
            Panel(
                "Events to learn",
                (("max(driftline_trainer_lag_events)", "events"), ("max(driftline_learner_lag_outcomes)", "outcomes")),
            ),
            Panel("Releases", (("max by (decision) (driftline_releases)", "{{decision}}"),)),
            Panel("Ages", (("max by (of) (driftline_age_seconds)", "{{of}}"),), "s"),
            Panel(
                "Served release",
                (("count by (release) (driftline_release_info)", "{{release}}"),),
                meaning="workers by release",
            ),
            Panel(
                "Embedded items",
                (("sum by (result) (rate(driftline_embedded_items_total[$__rate_interval]))", "{{result}}"),),
                "ops",
            ),
        ),
    ),
)


def dashboard() -> str:
    """The dashboard's JSON, as Grafana imports and provisions it."""
    return (
        json.dumps(
            {
                "uid": "driftline",
                "title": "driftline",
                "tags": ["driftline"],
                "schemaVersion": 41,
                "editable": True,
                "refresh": "10s",
                "time": {"from": "now-1h", "to": "now"},
                "templating": {
                    "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
                },
                "panels": list(_panels()),
            },
            indent=1,
        )
        + "\n"
    )


def queries() -> list[str]:
    """Everything that the panels ask."""
    return [query for _, panels in ROWS for panel in panels for query, _ in panel.queries]


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for title, panels in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": _at(0, top, _COLUMNS, 1),
        }
        left, top = 0, top + 1
        height = 4 if panels[0].kind == "stat" else _HEIGHT
        for panel in panels:
            if left + panel.width > _COLUMNS:
                left, top = 0, top + height
            number += 1
            yield _panel(number, panel, _at(left, top, panel.width, height))
            left += panel.width
        top += height


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "noValue": "no data"}
    if panel.red is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.red}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    targets = [
        {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": query, "legendFormat": legend or "__auto"}
        for at, (query, legend) in enumerate(panel.queries)
    ]
    made = {"id": number, "type": panel.kind, "title": panel.title, "datasource": _SOURCE, "gridPos": place}
    return made | {
        "description": panel.meaning,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }


def _at(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}
