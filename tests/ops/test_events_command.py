"""`driftline events send` and `driftline items send` as people run them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ops.cli import app
from ops.errors import CliError
from streams.contracts import Event, Interaction, Item
from streams.names import Topics
from tests.conftest import Wire

TIME = 880_000_000_000


def invoke(*arguments: str, **settings: str) -> Result:
    variables = {f"DRIFTLINE_{name.upper()}": value for name, value in settings.items()}
    return CliRunner().invoke(app, list(arguments), env=variables)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Five rows, the third without an item and the fourth with an action that is unknown."""
    path = tmp_path / "events.csv"
    rows = [f"u{number},i{number},{TIME + number},view" for number in range(5)]
    rows[2], rows[3] = f"u2,,{TIME},view", f"u3,i3,{TIME},steal"
    path.write_text("\n".join(["user,item,time,action", *rows]) + "\n")
    return path


def test_a_dry_run_names_bad_rows_and_its_status_tells(events):
    result = invoke("events", "send", str(events), "--dry-run")
    assert result.exit_code == 1
    assert "row 3: Object missing required field `item`\n" in result.stderr
    assert "row 4: action is 'steal'; expected one of view" in result.stderr
    assert result.stdout.startswith("3 rows good, 2 bad, in ")


def test_a_dry_run_without_bad_rows(events):
    result = invoke("events", "send", str(events), "--dry-run", "--limit", "2")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("2 rows good, 0 bad, in ")


def test_programs_get_counts_and_nothing_else(events):
    result = invoke("events", "send", str(events), "--dry-run", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 1 and (told["topic"], told["good"], told["bad"]) == ("events", 3, 2)


def test_strict_stops_at_the_first_bad_row(events):
    result = invoke("events", "send", str(events), "--dry-run", "--strict")
    assert isinstance(result.exception, CliError)
    assert result.exception.problem == "row 3: Object missing required field `item`"
    assert result.stdout.startswith("2 rows good, 0 bad")


def test_many_bad_rows_are_only_counted(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("{}\n" * 500)
    result = invoke("events", "send", str(path), "--dry-run")
    assert result.stderr.count("row ") == 20 and "more bad rows are only counted" in result.stderr
    assert result.stdout.startswith("0 rows good, 500 bad")


@pytest.mark.parametrize(("good", "status"), [(0, 1), (1, 0)])
def test_the_status_tells_when_rows_were_bad_and_none_was_sent(tmp_path, monkeypatch, good, status):
    """A broker that takes all that there is."""
    monkeypatch.setattr("ops.connection.require_topics", lambda *_: None)

    async def take(cluster, topic, records, rate, tick):
        for count, _ in enumerate(records, start=1):
            tick(count)

    monkeypatch.setattr("ops.sending.send_all", take)
    path = tmp_path / "items.jsonl"
    path.write_text("{}\n" * 3 + '{"item": "i", "title": "t"}\n' * good)
    result = invoke("items", "send", str(path), bootstrap_servers="127.0.0.1:9")
    assert result.stdout.startswith(f"{good} rows sent to items, 3 bad")
    assert result.exit_code == status


def test_an_empty_file_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("ops.commands.events._Sending._send", lambda *_: None)
    (tmp_path / "events.jsonl").write_text("")
    assert invoke("events", "send", str(tmp_path / "events.jsonl")).exit_code == 0


def test_the_wrong_unit_is_told_once_and_at_once(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("user,item,time\n" + "u,i,880000000\n" * 50)
    result = invoke("events", "send", str(path), "--dry-run")
    assert isinstance(result.exception, CliError)
    assert "read in s it is 1997-11-20" in result.exception.problem
    assert "--time-unit s" in result.exception.next_step
    assert invoke("events", "send", str(path), "--dry-run", "--time-unit", "s").stdout.startswith("50 rows good, 0 bad")


@pytest.mark.parametrize(
    ("header", "missing", "has"),
    [
        ("usr,item,time", "user", "the file has usr, item, time"),
        ("user,item", "time or timestamp", "the file has user, item"),
        ("", "user", "the file is empty"),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path, header, missing, has):
    path = tmp_path / "events.csv"
    path.write_text(header and header + "\n1,2,3\n")
    result = invoke("events", "send", str(path), "--dry-run")
    assert isinstance(result.exception, CliError)
    assert result.exception.problem == f"there is no column {missing}: {has}"


def test_columns_that_are_not_used_are_named(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item,title,price,url\n1,A,2,x\n")
    result = invoke("items", "send", str(path), "--dry-run")
    assert result.stderr == "not used: price, url\n"


async def send(*arguments: str, bootstrap: str, topics: Topics) -> Result:
    """Run the command in a thread: it has an event loop of its own."""
    settings = {"bootstrap_servers": bootstrap, "topic_prefix": topics.prefix}
    result = await asyncio.to_thread(invoke, *arguments, **settings)
    if result.exception is not None:
        raise result.exception
    return result


@pytest.mark.broker
async def test_good_rows_are_sent_keyed_by_user(events, bootstrap: str, topics: Topics, wire: Wire):
    result = await send("events", "send", str(events), bootstrap=bootstrap, topics=topics)
    assert result.stdout.startswith("3 rows sent to events, 2 bad, in ")
    found = {record.key: msgspec.json.decode(record.value, type=Event) for record in await wire.read(topics.events)}
    assert found == {
        f"u{n}".encode(): Interaction(user=f"u{n}", item=f"i{n}", time=TIME + n, action="view") for n in (0, 1, 4)
    }


@pytest.mark.broker
async def test_items_are_sent_keyed_by_item(tmp_path, bootstrap: str, topics: Topics, wire: Wire):
    rows: list[dict[str, Any]] = [
        {"item": 1, "title": "Toy Story", "categories": ["Comedy", "Animation"], "year": 1995},
        {"item": "2", "title": "", "text": "untitled"},
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = await send("items", "send", str(path), bootstrap=bootstrap, topics=topics)
    assert result.stdout.startswith("1 rows sent to items, 1 bad")
    (record,) = await wire.read(topics.items)
    assert record.key == b"1"
    assert msgspec.json.decode(record.value, type=Item) == Item(
        item="1", title="Toy Story", categories=["Comedy", "Animation"], year=1995
    )


@pytest.mark.broker
async def test_what_was_sent_before_strict_stopped_is_told_and_there(events, bootstrap, topics: Topics, wire: Wire):
    with pytest.raises(CliError, match="row 3"):
        await send("events", "send", str(events), "--strict", bootstrap=bootstrap, topics=topics)
    assert len(await wire.read(topics.events)) == 2


@pytest.mark.broker
async def test_missing_topics_are_told_before_anything_is_sent(events, bootstrap):
    with pytest.raises(CliError, match=r"nowhere\.events is missing"):
        await send("events", "send", str(events), bootstrap=bootstrap, topics=Topics("nowhere."))
