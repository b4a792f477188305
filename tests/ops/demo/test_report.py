"""The report: the keys that programs rely on, what counts as success, and a table that can be drawn."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from evaluation.propensity_check import Checked
from evaluation.scoreboard import RANKERS, Scoreboard
from ops.audit import Account
from ops.demo.report import report, succeeded, summary, write
from ops.demo.traffic import Latency, TrafficStatus

KEYS = {
    "events_in",
    "slates",
    "coalesced",
    "dead_letters",
    "lost",
    "duplicates",
    "latency_ms",
    "events_per_s",
    "hit_rate_at_10",
    "ndcg_at_10",
    "propensity",
    "release",
    "seconds_to_first_slate",
}
WARM_UP = Account(20, 5, 15, 0, 0, 0, [], [], [])
ALL = Account(120, 90, 28, 0, 2, 0, [], [], [])
CHECKED = Checked(95, 95, 1e-12, 1e-13, [])
TRAFFIC = TrafficStatus(100, 98, 1042.5, 199.0, Latency(5.0, 12.0), Latency(5.5, 13.0), True)


def scoreboard() -> Scoreboard:
    board = Scoreboard({"i1", "i2"})
    board.event((0, 0), "anna", "i1", 0)
    board.slate(0, [0], ["i2"])
    board.decision(0, [0], ["i2"], np.zeros(1, np.float32))
    board.event((0, 1), "anna", "i2", 1)
    return board


def made(account: Account = ALL, checked: Checked = CHECKED, traffic: TrafficStatus = TRAFFIC) -> dict[str, Any]:
    return report(WARM_UP, account, scoreboard(), checked, traffic, 0.01, "r1", begun=1000.0)


def test_every_key_is_there_and_it_is_json(tmp_path: Path) -> None:
    write(tmp_path / "r.json", made())
    found = json.loads((tmp_path / "r.json").read_text())
    assert found.keys() >= KEYS
    assert found["latency_ms"] == {"p50": 5.0, "p99": 12.0}
    assert found["hit_rate_at_10"].keys() == found["ndcg_at_10"].keys() == set(RANKERS)
    assert found["hit_rate_at_10"]["driftline"] == 1.0
    assert found["propensity"].keys() >= {"sum_check_max_error", "calibration_error"}
    assert found["seconds_to_first_slate"] == 42.5
    assert (found["release"], found["events_per_s"]) == ("r1", 199.0)


def test_counts_are_of_the_live_events_and_add_up() -> None:
    found = made()
    assert (found["events_in"], found["slates"], found["coalesced"], found["dead_letters"]) == (100, 85, 13, 2)
    assert found["events_in"] == found["slates"] + found["coalesced"] + found["dead_letters"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"lost": [(0, 3)]}, "lost"),
        ({"duplicates": [(0, 3)]}, "duplicates"),
        ({"foreign": [(0, 3)]}, "foreign"),
        ({"unanswered": 1}, "unanswered"),
    ],
)
def test_any_event_not_answered_once_is_a_failure(changes: dict[str, Any], key: str) -> None:
    fields = {name: getattr(ALL, name) for name in Account.__dataclass_fields__}
    found = made(Account(**{**fields, **changes}))
    assert found[key] == 1
    assert not succeeded(found) and succeeded(made())


def test_wrong_logits_are_a_failure() -> None:
    assert not succeeded(made(checked=Checked(95, 95, 1e-12, 1e-13, ["0-1"])))


def test_the_summary_names_what_counts() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(summary(made()))
    shown = console.export_text()
    for words in ("100 at 199/s", "0, 0, 0", "p50 5.0 ms, p99 12.0 ms", "42 s", "windowed co-occurrence", "r1"):
        assert words in shown


def test_what_is_not_known_is_null_and_can_be_shown() -> None:
    found = made(checked=Checked(0, 0, None, None, []), traffic=TrafficStatus())
    assert found["latency_ms"] == {"p50": None, "p99": None}
    assert found["seconds_to_first_slate"] is None
    Console(quiet=True).print(summary(found))
