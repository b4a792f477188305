"""`driftline recommend` and `driftline watch` as people run them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ops.cli import app
from ops.commands.read import _line, _span
from ops.contract_examples import EXAMPLES
from ops.errors import CliError
from streams.contracts import ItemVector, Recommendation, encode
from streams.names import Topics
from tests.conftest import Wire

ROOT = Path(__file__).parents[2]
(SLATE,) = (example for example in EXAMPLES if isinstance(example, Recommendation))
(VECTOR,) = (example for example in EXAMPLES if isinstance(example, ItemVector))
TITLES = {"50": "Star Wars", "181": "Return of the [Jedi]", "172": "The Empire Strikes Back"}

Invoke = Callable[..., Result]


def slate(user: str, name: str) -> tuple[bytes, bytes]:
    return user.encode(), encode(msgspec.structs.replace(SLATE, user=user, slate=name))


@pytest.fixture
def settings(bootstrap: str, topics: Topics) -> dict[str, str]:
    return {"DRIFTLINE_BOOTSTRAP_SERVERS": bootstrap, "DRIFTLINE_TOPIC_PREFIX": topics.prefix, "COLUMNS": "160"}


@pytest.fixture
async def published(topics: Topics, wire: Wire) -> None:
    """Two slates of user 42 among those of others, and the titles of three items."""
    vectors = [msgspec.structs.replace(VECTOR, item=item, title=title) for item, title in TITLES.items()]
    await wire.produce(topics.item_vectors, [(vector.item.encode(), encode(vector)) for vector in vectors])
    records = [slate("42", "2-7"), slate("42", "2-8"), *(slate(f"other {n}", f"2-{n}") for n in range(50))]
    await wire.produce(topics.recommendations, records)


async def run(settings: dict[str, str], *arguments: str) -> Result:
    """Run the command in a thread: it has an event loop of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=settings)
    if result.exception is not None:
        raise result.exception
    return result


@pytest.mark.broker
async def test_the_latest_slate_of_a_user_with_titles_and_probabilities(settings, published):
    lines = (await run(settings, "recommend", "42")).stdout.splitlines()
    assert lines[0].startswith("user 42, slate 2-8, ") and lines[0].endswith("answers interaction with Star Wars")
    assert [" ".join(line.split()) for line in lines[2:5]] == [
        "1 174 19.8% 88.0% 2.27",
        "2 181 Return of the [Jedi] 34.1% 92.4% 2.38",
        "3 172 The Empire Strikes Back 15.8% 96.9% 2.59",
    ]
    assert "event 9 ms, release d64l2w50-7f3a9c41b0de 1 h" in lines[5]


@pytest.mark.broker
async def test_json_is_the_message_itself(settings, published):
    text = (await run(settings, "recommend", "42", "--json")).stdout
    assert msgspec.json.decode(text, type=Recommendation) == msgspec.structs.replace(SLATE, slate="2-8")


@pytest.mark.broker
async def test_users_without_a_slate_and_erased_ones(settings, published, topics, wire):
    with pytest.raises(CliError, match=r"nothing is recommended to user nobody yet\n.*--wait"):
        await run(settings, "recommend", "nobody")
    await wire.produce(topics.recommendations, [(b"42", None)])
    with pytest.raises(CliError, match="user 42 was erased"):
        await run(settings, "recommend", "42")


@pytest.mark.broker
async def test_waiting_shows_the_next_slate_and_not_the_latest(settings, published, topics, wire):
    waiting = asyncio.create_task(run(settings, "recommend", "42", "--wait", "--json"))
    while not waiting.done():  # it begins to wait some time after it was started
        await wire.produce(topics.recommendations, [slate("43", "2-100"), (b"42", None), slate("42", "2-101")])
    assert msgspec.json.decode(waiting.result().stdout, type=Recommendation).slate == "2-101"


async def lines_of_watch(settings: dict[str, str], wire: Wire, topics: Topics, *options: str) -> list[str]:
    """Publish slates of the users 42 and 43 until `watch` has shown two lines; return those."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops.cli", "watch", *options),
        env={**os.environ, **settings, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    reading = asyncio.create_task(_two_lines(process.stdout))
    try:
        while not reading.done():
            await wire.produce(topics.recommendations, [slate("42", "2-100"), slate("43", "2-101")])
            await asyncio.sleep(0.1)
        return reading.result()
    finally:
        process.kill()
        await process.wait()


async def _two_lines(stream: asyncio.StreamReader) -> list[str]:
    return [(await stream.readline()).decode() for _ in range(2)]


@pytest.mark.broker
async def test_watch_shows_slates_as_they_come(settings, published, topics, wire):
    first, second = await lines_of_watch(settings, wire, topics)
    assert {first.split()[1], second.split()[1]} == {"42", "43"}
    best = "174 20% · Return of the [Jedi] 34% · The Empire Strikes Back 93%"
    assert first.rstrip().endswith(f"interaction with Star Wars, after 9 ms → {best}")


@pytest.mark.broker
async def test_watch_one_user_as_json(settings, published, topics, wire):
    lines = await lines_of_watch(settings, wire, topics, "--user", "43", "--json")
    assert [msgspec.json.decode(line, type=Recommendation).user for line in lines] == ["43", "43"]


class Record:
    key = b"42"
    timestamp = 1_700_000_000_000

    def __init__(self, value: bytes | None) -> None:
        self.value = value


def test_the_line_of_a_long_slate_counts_the_rest_and_that_of_an_erased_user_says_so():
    long = msgspec.structs.replace(SLATE, items=[str(n) for n in range(10)], conditional=[0.5] * 10)
    assert _line(Record(encode(long)), {}).endswith("0 50% · 1 50% · 2 50% · and 7 more")
    assert _line(Record(None), {}).endswith("42            erased")


@pytest.mark.parametrize(
    ("millis", "words"), [(-5, "0 s"), (1_499, "1 s"), (59_000, "59 s"), (3_599_000, "59 min"), (9e7, "1 d")]
)
def test_spans_in_words(millis, words):
    assert _span(millis) == words
