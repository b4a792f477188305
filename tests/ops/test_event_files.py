"""Files as people have them: formats, times, and errors that say where and what."""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path

import pandas as pd
import pytest

from ops.errors import CliError
from ops.event_files import read_stream


def write(folder: Path, text: str, name: str = "events.csv") -> Path:
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


EVENTS = "user,item,timestamp,action,weight\nb,y,300,rate,4\na,x,100,view,1\na,y,200,,\nb,x,200,view,2.5\n"


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz"])
def test_events_come_in_order_of_time(tmp_path: Path, name: str) -> None:
    events, told = read_stream(write(tmp_path, EVENTS, name), None)
    assert [events.user_ids[row] for row in events.users] == ["a", "a", "b", "b"]
    assert [events.item_ids[row] for row in events.items] == ["x", "y", "x", "y"]
    assert events.times_ms.tolist() == [100_000, 200_000, 200_000, 300_000]
    assert [events.action_names[row] for row in events.actions] == ["view", "view", "view", "rate"]
    assert events.weights.tolist() == [1, 1, 2.5, 4]
    assert (events.item_ids, events.listed, told) == (["x", "y"], 0, [None, None])


def test_parquet_with_dates_and_numbers_for_ids(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "user": [7, 8],
            "item": [1, 2],
            "timestamp": [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)],
        }
    )
    table.to_parquet(tmp_path / "events.parquet")
    events, _ = read_stream(tmp_path / "events.parquet", None)
    assert (events.user_ids, events.item_ids) == (["8", "7"], ["2", "1"])
    assert events.times_ms.tolist() == [1767225600000, 1767312000000]


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("timestamp", ["874724710", "874724711.5"], [874724710_000, 874724711_500]),
        ("timestamp", ["874724710000", "874724711000"], [874724710_000, 874724711_000]),
        ("timestamp", ["50", "99999999999"], [50_000, 99_999_999_999_000]),
        ("timestamp", ["50", "100000000000"], [50, 100_000_000_000]),
        ("time", ["50", "60"], [50, 60]),
        ("timestamp", ["2026-01-01", "2026-01-01T01:00:00+01:00"], [1767225600000, 1767225600000]),
    ],
    ids=["seconds", "milliseconds", "below the limit", "at the limit", "column time", "ISO 8601"],
)
def test_units_of_time(tmp_path: Path, column: str, values: list[str], expected: list[int]) -> None:
    text = f"user,item,{column}\n" + "".join(f"a,x,{value}\n" for value in values)
    events, _ = read_stream(write(tmp_path, text), None)
    assert events.times_ms.tolist() == expected


def test_the_unit_can_be_said(tmp_path: Path) -> None:
    events, _ = read_stream(write(tmp_path, "user,item,timestamp\na,x,5\n"), None, unit="ms")
    assert events.times_ms.tolist() == [5]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a,x,soon,view,1", "row 2: column timestamp is 'soon', expected seconds or milliseconds"),
        ("a,x,-5,view,1", "row 2: column timestamp is '-5', expected a number from 0"),
        ("a,x,nan,view,1", "row 2: column timestamp is 'nan'"),
        ("a,x,2026-01-01,view,1", "row 2: column timestamp is '2026-01-01', expected a number like before"),
        ("a,x,,view,1", "row 2: column time"),
        (",x,100,view,1", "row 2: column user is '', expected an id"),
        (f"a,{'x' * 257},100,view,1", "row 2: column item is"),
        ("a,x,100,view,0", "row 2: column weight is '0', expected a number above 0"),
        ("a,x,100,view,many", "row 2: column weight is 'many', expected a number"),
        (f"a,x,100,{'v' * 65},1", "row 2: column action"),
        ("a,x,100", "row 2: it has 3 fields"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, problem: str) -> None:
    path = write(tmp_path, f"user,item,timestamp,action,weight\na,x,100,view,1\n{row}\n")
    with pytest.raises(CliError) as error:
        read_stream(path, None)
    assert f"{path}, {problem}" in error.value.problem
    assert "\n" not in error.value.problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("user,thing\na,x\n", "has no column item, timestamp; it has user, thing"),
        ("user,item,timestamp\n", "holds no events"),
    ],
)
def test_a_file_of_no_use_is_an_error(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(CliError, match=problem):
        read_stream(write(tmp_path, text), None)


def test_listed_items_come_first(tmp_path: Path) -> None:
    items = write(tmp_path, "item,title,categories,year\nz,Zoo,a|b,1990\ny,Yes,,\n", "items.csv")
    events, told = read_stream(write(tmp_path, EVENTS), items)
    assert (events.item_ids, events.listed) == (["z", "y", "x"], 2)
    assert told[0] is not None
    assert (told[0].title, told[0].categories, told[0].year) == ("Zoo", ["a", "b"], 1990)
    assert told[2] is None


def test_texts_may_stand_with_the_events(tmp_path: Path) -> None:
    """Of the item's earliest row: what was written of it later was not known then."""
    text = "user,item,timestamp,title\na,x,200,Later\nb,x,100,First\nb,y,150,\n"
    events, told = read_stream(write(tmp_path, text), None)
    assert (events.item_ids, events.listed) == (["x", "y"], 0)
    assert told[0] is not None
    assert (told[0].title, told[1]) == ("First", None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("title\nx\n", "no column item"),
        ("item,title,year\nx,X,soon\n", "row 1: year is 'soon'"),
        ("item\n", "no items"),
    ],
)
def test_a_bad_items_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(CliError, match=problem):
        read_stream(write(tmp_path, EVENTS), write(tmp_path, text, "items.csv"))


def test_a_limit_takes_the_first_in_time(tmp_path: Path) -> None:
    events, told = read_stream(write(tmp_path, EVENTS), None, limit=2)
    assert (events.user_ids, events.item_ids, len(events), len(told)) == (["a"], ["x", "y"], 2, 2)
