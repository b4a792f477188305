"""What a demo run found, as JSON for programs and as a table for people. Knows nothing of how it was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from evaluation.propensity_check import Checked
from evaluation.scoreboard import Score, Scoreboard
from ops.audit import Account
from ops.demo.screen import score_table
from ops.demo.traffic import TrafficStatus


def report(
    warm_up: Account,
    everything: Account,
    scoreboard: Scoreboard,
    checked: Checked,
    traffic: TrafficStatus,
    calibration: float | None,
    release: str | None,
    begun: float,
) -> dict[str, Any]:
    """The report as JSON values: counts of the live events, and what went wrong of all.

    `warm_up` is the account of the warm-up alone, `everything` that of all events; `begun` is in seconds since the
    epoch. A figure that is not known is null.
    """
    latency = traffic.overall
    return {
        "events_in": everything.events - warm_up.events,
        "slates": everything.slates - warm_up.slates,
        "coalesced": everything.coalesced - warm_up.coalesced,
        "dead_letters": everything.dead_letters - warm_up.dead_letters,
        "lost": len(everything.lost),
        "duplicates": len(everything.duplicates),
        "foreign": len(everything.foreign),
        "unanswered": everything.unanswered,
        "latency_ms": {"p50": latency.p50 if latency else None, "p99": latency.p99 if latency else None},
        "events_per_s": traffic.events_per_s,
        "hit_rate_at_10": scoreboard.overall.hit_rate,
        "ndcg_at_10": scoreboard.overall.ndcg,
        "scored": scoreboard.overall.events,
        "unscored": dict(scoreboard.unscored),
        "untied": _plain(scoreboard.untied),
        "propensity": {
            "sum_check_max_error": checked.sum_error,
            "published_max_error": checked.published_error,
            "wrong_logits": len(checked.wrong_logits),
            "decisions": checked.decisions,
            "decisions_checked": checked.checked,
            "calibration_error": calibration,
        },
        "release": release,
        "seconds_to_first_slate": traffic.first_slate - begun if traffic.first_slate else None,
        "warm_up": {"events": warm_up.events, "slates": warm_up.slates, "coalesced": warm_up.coalesced},
    }


def write(path: Path, report: dict[str, Any]) -> None:
    """Write the report as a JSON file."""
    path.write_text(json.dumps(report, indent=2) + "\n")


def succeeded(report: dict[str, Any]) -> bool:
    """Whether every event was answered once, with probabilities of the logits that were logged."""
    wrong = [report[name] for name in ("lost", "duplicates", "foreign", "unanswered")]
    return not any(wrong) and not report["propensity"]["wrong_logits"]


def summary(report: dict[str, Any]) -> Group:
    """The report for people."""
    table = Table(box=box.SIMPLE, show_header=False)
    latency, propensity = report["latency_ms"], report["propensity"]
    for name, value in (
        ("live events", f"{report['events_in']:,} at {report['events_per_s']:.0f}/s"),
        ("answered by", f"{report['slates']:,} slates, {report['coalesced']:,} events together with a later one"),
        ("lost, repeated, invented", f"{report['lost']}, {report['duplicates']}, {report['foreign']}"),
        ("not answered in time", f"{report['unanswered']:,}"),
        ("dead letters", f"{report['dead_letters']:,}"),
        ("event → slate", f"p50 {_number(latency['p50'], '.1f')} ms, p99 {_number(latency['p99'], '.1f')} ms"),
        ("first live slate", f"{_number(report['seconds_to_first_slate'], '.0f')} s after the command began"),
        ("probabilities", f"{propensity['decisions_checked']:,} of {propensity['decisions']:,} decisions computed"),
        ("", f"sums off by at most {_number(propensity['sum_check_max_error'], '.1e')}"),
        ("", f"published ones off by at most {_number(propensity['published_max_error'], '.1e')}"),
        ("estimator", f"calibration error {_number(propensity['calibration_error'], '.4f')}"),
        ("release", str(report["release"])),
    ):
        table.add_row(name, value)
    untied = report["untied"]
    scores = score_table(
        Score(untied["events"], untied["hit_rate_at_10"], untied["ndcg_at_10"]),
        Score(report["scored"], report["hit_rate_at_10"], report["ndcg_at_10"]),
    )
    scores.columns[1].header = f"not at the same time {untied['events']:,}"
    unscored = ", ".join(f"{count:,} ({why})" for why, count in report["unscored"].items()) or "none"
    return Group(table, scores, Text(f"Not scored: {unscored}.", style="dim"))


def _plain(score: Score) -> dict[str, Any]:
    return {"events": score.events, "hit_rate_at_10": score.hit_rate, "ndcg_at_10": score.ndcg}


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)
