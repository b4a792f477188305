"""`driftline dlq` as people run it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ops.cli import app
from ops.errors import CliError
from streams.cluster import Cluster
from streams.topics import Topics
from tests.conftest import Wire
from tests.ops.deadletters.posted import Bad, post

Run = Callable[..., "asyncio.Future[Result]"]
HOSTILE = b'{"user":"\x1b]0;owned\x07"'


@pytest.fixture
def dlq(cluster: Cluster, topics: Topics) -> Run:
    settings = {
        "DRIFTLINE_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
        "DRIFTLINE_TOPIC_PREFIX": topics.prefix,
        "DRIFTLINE_APP_ID": f"{topics.prefix}app",
        "COLUMNS": "200",
    }

    async def run(*arguments: object, answer: str | None = None) -> Result:
        """Run the command in a thread: it has an event loop of its own."""
        words = ["dlq", *map(str, arguments)]
        result = await asyncio.to_thread(CliRunner().invoke, app, words, input=answer, env=settings)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run  # type: ignore[return-value]


@pytest.fixture
async def letters(cluster: Cluster, topics: Topics) -> list[Bad]:
    posted = [
        Bad(b'{"a":[1,2]}', b"ann", "schema", "weight is -1; expected > 0", source=0, offset=3, time=1_700_000_000_000),
        Bad(HOSTILE, b"\x1b[2J\xff", "malformed_json", "\x1b[31mbad", [("h", b"\x07")], 1, 5, 1_700_000_060_000),
        Bad(None, b"ann", "null_value", "value is null", source=1, offset=9, time=1_700_000_120_000),
    ]
    await post(cluster, topics.events_dlq, topics.events, posted)
    return posted


@pytest.mark.broker
async def test_list_sums_up_and_shows_the_newest_first(dlq: Run, letters: list[Bad]) -> None:
    result = await dlq("list")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[1:4] == [
        f"{reason} 1 0 {at} {at}"
        for reason, at in (
            ("malformed_json", "2023-11-14 22:14:20"),
            ("null_value", "2023-11-14 22:15:20"),
            ("schema", "2023-11-14 22:13:20"),
        )
    ]
    assert lines[6:] == [
        "1 1 2023-11-14 22:15:20 null_value 1 9 ann value is null",
        r"1 0 2023-11-14 22:14:20 malformed_json 1 5 \x1b[2J\xff \x1b[31mbad",
        "0 0 2023-11-14 22:13:20 schema 0 3 ann weight is -1; expected > 0",
    ]
    assert "\x1b" not in result.stdout


@pytest.mark.broker
async def test_list_filters_and_json(dlq: Run, letters: list[Bad]) -> None:
    async def places(*filters: object) -> list[tuple[int, int]]:
        found = [json.loads(line) for line in (await dlq("list", "--json", *filters)).stdout.splitlines()]
        return [(one["partition"], one["offset"]) for one in found]

    assert await places() == [(1, 1), (1, 0), (0, 0)]
    assert await places("--limit", 2) == [(1, 1), (1, 0)]
    assert await places("--reason", "schema") == [(0, 0)]
    assert await places("--user", "ann") == [(1, 1), (0, 0)]
    assert await places("--since", "2023-11-14T22:14") == [(1, 1), (1, 0)]
    assert await places("--since", "2023-11-14T22:14", "--until", "2023-11-14T22:15") == [(1, 0)]
    assert await places("--partition", 1, "--key", "ann") == [(1, 1)]
    assert await places("--since", "1s") == []
    with pytest.raises(CliError, match="--reason is 'scheme'"):
        await dlq("list", "--reason", "scheme")
    with pytest.raises(CliError, match=r"has no partition 7; expected 0 to 3"):
        await dlq("list", "--partition", 7)


@pytest.mark.broker
async def test_show_says_everything_and_raw_writes_the_bytes(dlq: Run, letters: list[Bad], topics: Topics) -> None:
    shown = (await dlq("show", 1, 0)).stdout
    assert shown.splitlines()[:8] == [
        f"letter    {topics.events_dlq} 1 0, written 2023-11-14 22:14:20 UTC",
        "reason    malformed_json (not JSON, or not UTF-8)",
        r"message   \x1b[31mbad",
        f"source    {topics.events} 1 5, of 2023-11-14 22:13:20 UTC",
        "replayed  no",
        r"key       \x1b[2J\xff",
        r"header    h: \x07",
        "",
    ]
    assert "00000000  7b 22 75 73 65 72 22 3a" in shown and "\x1b" not in shown
    assert (await dlq("show", 0, 0)).stdout.endswith('{\n  "a": [\n    1,\n    2\n  ]\n}\n')
    assert (await dlq("show", 1, 0, "--raw")).stdout_bytes == HOSTILE
    with pytest.raises(CliError, match="the value is null"):
        await dlq("show", 1, 1, "--raw")
    with pytest.raises(CliError, match=r"there is no letter at .* 0 77"):
        await dlq("show", 0, 77)


@pytest.mark.broker
async def test_replay_asks_sends_once_and_says_what_will_fail_again(
    dlq: Run, letters: list[Bad], topics: Topics, wire: Wire
) -> None:
    with pytest.raises(CliError, match="nothing says which letters"):
        await dlq("replay")
    with pytest.raises(CliError, match="contradict each other"):
        await dlq("replay", "--all", "--user", "ann")
    planned = (await dlq("replay", "--all", "--dry-run")).stdout.splitlines()
    assert planned[0].startswith("3 letters would be sent again, ")
    assert "  1 null_value: they fail again: the value stays null" in planned
    refused = await dlq("replay", "--all", answer="n\n")
    assert refused.exit_code == 1 and "Send 3 again?" in refused.stdout
    assert not await wire.read(topics.events)
    assert (await dlq("replay", 0, 0, "--yes")).stdout.endswith("1 sent again.\n")
    assert (await dlq("replay", "--user", "ann", answer="y\n")).stdout.endswith("1 sent again.\n")
    assert (await dlq("replay", "--user", "ann", "--yes")).stdout.splitlines() == [
        "0 letters would be sent again, 0 bytes.",
        "  2 left out: sent again before",
    ]
    assert [(record.partition, record.key, record.value) for record in await wire.read(topics.events)] == [
        (0, b"ann", b'{"a":[1,2]}'),
        (1, b"ann", None),
    ]
    assert "null_value (replayed)" in (await dlq("list")).stdout
    assert "replayed  yes" in (await dlq("show", 0, 0)).stdout
    assert (await dlq("purge", "--replayed", "--yes")).stdout.splitlines() == [
        f"1 letters of {topics.events_dlq} would be deleted; 0 of them were not sent again.",
        "1 deleted.",
    ]
    with pytest.raises(CliError, match="nothing says what to delete"):
        await dlq("purge")
    assert (await dlq("purge", "--all", answer="n\n")).exit_code == 1
    assert (await dlq("purge", "--all", answer="y\n")).stdout.endswith("2 deleted.\n")
    assert (await dlq("list")).stdout == f"No letters in {topics.events_dlq}.\n"


@pytest.mark.broker
async def test_letters_of_items_have_a_topic_of_their_own(
    dlq: Run, topics: Topics, cluster: Cluster, wire: Wire
) -> None:
    await post(cluster, topics.items_dlq, topics.items, [Bad(b"{}", b"i1", "schema", source=2)])
    assert (await dlq("list")).stdout.startswith("No letters")
    assert "i1" in (await dlq("list", "--items")).stdout
    await dlq("replay", "--items", "--item", "i1", "--yes")
    await dlq("list", "--items")
    assert [(record.partition, record.key) for record in await wire.read(topics.items)] == [(2, b"i1")]


def test_help_is_instant_to_import() -> None:
    """Nothing heavy is imported to describe the commands."""
    code = "import sys, ops.commands.dlq; print(any(name in sys.modules for name in ('aiokafka', 'pydantic', 'rich')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
