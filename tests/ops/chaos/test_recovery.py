"""How long a kill silences its partitions, and where the time goes: told from timestamps written by hand."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.chaos.recovery import (
    Silence,
    TakenOver,
    figures,
    group_events,
    owned,
    percentiles,
    shares,
    silences,
    taken_over,
)

T = 1_795_000_000.0


def test_who_owned_what_is_told_from_the_logs(tmp_path: Path) -> None:
    lines = [
        {"event": "restored", "timestamp": "2026-11-24T08:00:00Z"},
        {
            "event": "partition taken over",
            "partition": 3,
            "seconds": 0.25,
            "timestamp": datetime.fromtimestamp(T, UTC).isoformat().replace("+00:00", "Z"),
        },
    ]
    log = tmp_path / "worker-1.2.log"
    log.write_text("2026 ERROR aiokafka nothing\n" + "\n".join(map(json.dumps, lines)))
    assert taken_over(log) == [TakenOver(T, "worker-1.2", 3, 0.25)]
    history = [
        TakenOver(T, "a", 0, 0.1),
        TakenOver(T, "a", 1, 0.1),
        TakenOver(T + 5, "b", 0, 0.1),
        TakenOver(T + 9, "a", 0, 0.1),
    ]
    assert owned(history, "a", T + 1) == [0, 1]
    assert owned(history, "a", T + 6) == [1]
    assert owned(history, "b", T + 9.5) == []


def test_a_silence_lies_between_the_last_slate_before_and_the_first_after() -> None:
    appended = {0: [1_000, 2_000, 7_500, 7_600], 1: [1_000, 2_000], 2: [9_000]}
    (found,) = silences(2.5, [0, 1, 2, 3], appended)
    assert (found.partition, found.last, found.first, found.seconds) == (0, 2.0, 7.5, 5.5)


def test_the_parts_of_a_silence_add_up(tmp_path: Path) -> None:
    def line(at: float, text: str) -> str:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
        return f"{stamp},{round(at % 1 * 1000):03d} INFO {text} (coordinator)"

    log = tmp_path / "broker.log"
    log.write_text(
        "\n".join(
            [
                line(T + 3.0, "[Group id=1] Member m in group chaos has failed, removing it from …"),
                line(T + 3.1, "[Group id=1] Preparing to rebalance group chaos in state PreparingRebalance"),
                line(T + 3.2, "[Group id=1] Member m in group chaos-learner has failed, removing it"),
                line(T + 4.0, "[Group id=1] Stabilized group chaos generation 9 with 2 members"),
            ]
        )
    )
    group = group_events([log], "chaos")
    assert [name for _, name in group] == ["failed", "preparing", "stable"]
    silence = Silence(0, T, T - 0.1, T + 5)
    history = [TakenOver(T - 60, "a", 0, 0.1), TakenOver(T + 4.5, "b", 0, 0.4), TakenOver(T + 4.4, "b", 1, 0.4)]
    found = shares([silence], group, history)
    assert found == {"detect": 3.0, "rebalance": 1.0, "take_over": 0.5, "first_slate": 0.5}
    assert sum(found.values()) == pytest.approx(silence.first - silence.killed)
    assert shares([Silence(1, T + 10, T + 9, T + 11)], group, history) == {}


def test_of_each_kill_the_longest_silence_counts_and_those_alone_are_told_apart(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    told = [{"event": "partition taken over", "partition": number, "seconds": 0.1} for number in (0, 1)]
    stamp = datetime.fromtimestamp(T - 50, UTC).isoformat()
    log.write_text("\n".join(json.dumps(one | {"timestamp": stamp}) for one in told))
    appended = {
        at: [round(1000 * (T + second)) for second in seconds]
        for at, seconds in enumerate([(-0.5, 2.0, 9.5, 14.0), (-0.5, 4.0, 9.5, 13.0)])
    }
    kills = [(T, "a"), (T + 10, "a"), (T + 11, "nobody")]
    found = figures(kills, [log], appended, [], [(T, T + 0.2), (T + 10, T + 10.1), (T + 12, T + 12.5)])
    assert found["recoveries_s"] == [4.5, 4.5]
    assert found["recoveries_alone_s"] == [4.5]
    assert found["recovery_seconds_alone"] == {"p50": 4.5, "p90": 4.5, "max": 4.5}
    assert figures([], [], {}, [], [])["recovery_seconds"] == {"p50": None, "p90": None, "max": None}


def test_percentiles() -> None:
    assert percentiles([3.0, 1.0, 2.0]) == {"p50": 2.0, "p90": 3.0, "max": 3.0}
    assert percentiles([]) == {"p50": None, "p90": None, "max": None}
