"""What the demo is fed with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pandas as pd

from ops.datasets import Dataset
from ops.demo.feed import Stream, stream, write_events
from streams.contracts import Interaction


def data(events: int = 10) -> Dataset:
    rows = [(f"u{number % 2}", f"i{number}", number * 1000, "rate", 3.0) for number in range(events)]
    return Dataset([], pd.DataFrame(rows, columns=["user", "item", "time", "action", "weight"]))


def items(events: list[Interaction]) -> list[str]:
    return [event.item for event in events]


def test_the_first_fifth_by_time_is_the_warm_up() -> None:
    made = stream(data(), None)
    assert items(made.warm_up) == ["i0", "i1"]
    assert items(made.live) == [f"i{number}" for number in range(2, 10)]
    assert items(stream(data(), 3).live) == ["i2", "i3", "i4"]


def test_events_are_valid_and_numbered(tmp_path: Path) -> None:
    made: Stream = stream(data(), 2)
    write_events(tmp_path / "live.jsonl", made.live)
    lines = (tmp_path / "live.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Interaction) for line in lines] == made.live
    assert [event.id for event in made.live] == ["2", "3"]
    assert (made.live[0].user, made.live[0].time, made.live[0].action, made.live[0].weight) == ("u0", 2000, "rate", 3.0)
