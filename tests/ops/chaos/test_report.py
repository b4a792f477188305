"""The report: what says that something is wrong, what is printed, and many reports as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops.chaos import report
from ops.errors import CliError


def made(seed: int = 1, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys((*report.FAULTS, *report.MUST_BE_ZERO), 0)
    found |= {"job": "driftline", "seed": seed, "kills": 3, "events": 4_000, "slates": 3_000, "near_ties": 0}
    found |= {"coalesced": 900, "erased": 90, "outcomes": 2_000, "states": 300, "deaths": []}
    found |= {"dead_letters": 10, "dead_letters_expected": 10, "recoveries": 2, "recoveries_s": [4.0, 6.0]}
    found |= {"recovery_seconds": {"p50": 5.0, "p90": 6.0, "max": 6.0}, "findings": {}}
    found |= {"recovery_seconds_alone": {"p50": 4.0, "p90": 4.0, "max": 4.0}, "recoveries_alone_s": [4.0]}
    found |= {"recovery_shares": {"detect": 2.5, "first_slate": 0.125}}
    return found | changes


@pytest.mark.parametrize("name", report.MUST_BE_ZERO)
def test_any_of_them_says_that_something_is_wrong(name: str) -> None:
    assert report.well(made())
    assert not report.well(made(**{name: 1}))


def test_the_summary_shows_the_first_findings_and_how_many_there_are() -> None:
    text = "\n".join(report.lines(made(lost=7, findings={"lost": [f"offset {number}" for number in range(7)]})))
    assert "7 lost" in text and "lost: offset 4\n" in text and "offset 5" not in text and "… 7 in all" in text
    assert "p50 5.00 s" in text and "detect 2.50 s, first slate 0.12 s" in text


def test_kills_without_a_figure_are_explained() -> None:
    assert "over 2 kills; 1 have no figure: the worker owned no partition" in "\n".join(report.lines(made()))
    unknown = {"p50": None, "p90": None, "max": None}
    text = "\n".join(report.lines(made(kills=2, recovery_seconds_alone=unknown, recoveries_alone_s=[])))
    assert "no figure" not in text and "of 0 that no other fault fell into p50 unknown" in text


def test_who_ended_by_himself_is_named_with_his_last_words() -> None:
    death = {"name": "learn-0", "at": 0.0, "status": 1, "zombie": False, "last_words": "error: no Kafka\nanswers"}
    text = "\n".join(report.lines(made(deaths=[death, death | {"name": "worker-1", "zombie": True}] + [death] * 5)))
    assert "7 processes ended by themselves" in text and "while the broker is away" in text
    assert "  learn-0, status 1: error: no Kafka answers\n" in text
    assert "  worker-1, status 1, had been stopped and woken up: error" in text and "… 7 in all" in text


def test_reports_are_written_read_and_summed_up(tmp_path: Path) -> None:
    faust = made(
        3, job="Faust table", lost=5, wrong_states=None, recovery_seconds={}, recoveries_s=[], recoveries_alone_s=[]
    )
    for number, one in enumerate([made(1), made(2, recoveries_s=[8.0]), faust]):
        report.write(tmp_path / f"{number}.json", one)
    head, rule, *rows = report.table([report.read(tmp_path / f"{number}.json") for number in range(3)]).splitlines()
    assert head.count("|") == rule.count("|") == rows[0].count("|")
    assert [row.split("|")[1:3] for row in rows] == [
        [" driftline ", " 1 "],
        [" driftline ", " 2 "],
        [" Faust table ", " 3 "],
        [" **driftline** ", " **all** "],
    ]
    assert "| **6** |" in rows[3] and "| **8,000** |" in rows[3] and "**6.0 / 8.0**" in rows[3]
    assert "| 5 |" in rows[2] and "| – |" in rows[2]


def test_a_file_that_is_no_report_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(CliError, match=r"other\.json is no report of a chaos run"):
        report.read(tmp_path / "other.json")
    with pytest.raises(CliError, match=r"none\.json cannot be read"):
        report.read(tmp_path / "none.json")
