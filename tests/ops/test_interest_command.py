"""`driftline interest` as people run it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ops.cli import app
from ops.errors import CliError
from ops.moments import ahead
from streams.contracts import encode
from streams.names import Topics
from streams.releases import RELEASE_KEY, pointer_to
from streams.state import encode_state
from tests.conftest import Wire
from tests.small import GENRES, START, items, release
from tests.streams.test_interest import head, state

HOUR, DAY = 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+1h", START + HOUR),
        ("+7d", START + 7 * DAY),
        ("+ 90min", START + 90 * 60_000),
        ("2020-09-14T00:00", 1_600_041_600_000),
        ("2020-09-14T02:00+02:00", 1_600_041_600_000),
        (str(START + 1), START + 1),
    ],
)
def test_times_ahead(text: str, expected: int) -> None:
    assert ahead("--at", text, START) == expected


@pytest.mark.parametrize("text", ["7d", "+7", "+7y", "tomorrow", "", "+-7d"])
def test_what_is_no_time_ahead_is_refused(text: str) -> None:
    with pytest.raises(CliError, match="--at is") as found:
        ahead("--at", text, START)
    assert "+7d" in found.value.next_step


@pytest.mark.parametrize("text", ["+0h", "2020-09-13", str(START)])
def test_a_time_that_is_not_ahead_is_refused(text: str) -> None:
    with pytest.raises(CliError, match="--at is") as found:
        ahead("--at", text, START)
    assert "after 2020-09-13T12:26:40" in found.value.next_step


@pytest.fixture
def settings(bootstrap: str, topics: Topics, tmp_path: Path) -> dict[str, str]:
    return {
        "DRIFTLINE_BOOTSTRAP_SERVERS": bootstrap,
        "DRIFTLINE_TOPIC_PREFIX": topics.prefix,
        "DRIFTLINE_RELEASES_DIR": str(tmp_path),
        "COLUMNS": "160",
    }


async def run(settings: dict[str, str], *arguments: str) -> Result:
    """Run the command in a thread: it has an event loop of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, app, ["interest", *arguments], env=settings)
    if result.exception is not None:
        raise result.exception
    return result


@pytest.mark.broker
async def test_interest_is_told_from_the_state_and_the_current_release(settings, topics, wire: Wire, tmp_path) -> None:
    of = state([0, 4, 8])
    await wire.produce(topics.state, [(b"42", encode_state(state([1]))), (b"42", encode_state(of)), (b"gone", None)])

    async def refused(*arguments: str) -> str:
        with pytest.raises(CliError) as found:
            await run(settings, *arguments)
        return found.value.problem

    assert await refused("nobody") == "nothing is known of user nobody"
    assert await refused("gone") == "user gone was erased"
    assert "--at is 'soon'" in await refused("42", "--at", "soon")
    assert await refused("42") == "no release is published"

    plain = release().save(tmp_path)
    await wire.produce(topics.models, [(RELEASE_KEY, encode(pointer_to(plain, START)))])
    assert "cannot tell later times" in await refused("42")

    made = head(towards=1).save(tmp_path)
    await wire.produce(topics.models, [(RELEASE_KEY, encode(pointer_to(made, START)))])
    await wire.produce(topics.item_vectors, [(item.encode(), encode(vector)) for item, vector in items().items()])

    found = json.loads((await run(settings, "42", "--at", "+1h", "--top", "2", "--json")).output)
    assert (found["last_event"], found["at"]) == (of.last_time, of.last_time + HOUR)
    assert found["release"] == made.name
    assert found["topics"]["gaining"][0]["id"] == GENRES[1]
    assert found["topics"]["losing"][0]["id"] == GENRES[0]
    gaining = found["items"]["gaining"]
    assert len(gaining) == 2
    assert gaining[0]["title"] == f"Title {gaining[0]['id'][1:]}"
    assert gaining[0]["later"] > gaining[0]["now"]
    assert found["drift"]["degrees_per_day"] > 0

    text = (await run(settings, "42", "--at", "+7d")).output
    assert "gaining" in text
    assert "losing" in text
    assert f"{GENRES[1]} " in text
    assert "° a day" in text

    made.rename(tmp_path / "elsewhere")
    assert "cannot be loaded" in await refused("42")
