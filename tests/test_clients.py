"""The client examples of docs/clients run as they stand: each sends an event, and each reads the slates.

What they print of an event is what its slate is called; all three send a user to the same partition.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.contract_examples import EXAMPLES
from streams.contracts import Interaction, Recommendation, encode
from streams.topics import Topics
from streams.validation import EventRules, decode_event
from tests.conftest import JAR_CACHE, Wire

pytestmark = pytest.mark.broker

CLIENTS = Path(__file__).parents[1] / "docs" / "clients"
(SLATE,) = (example for example in EXAMPLES if isinstance(example, Recommendation))


def python(name: str) -> list[str]:
    return [sys.executable, str(CLIENTS / name)]


def java() -> list[str]:
    command = shutil.which("java")
    known = subprocess.run([command, "--list-modules"], capture_output=True, text=True).stdout if command else ""
    if "jdk.compiler" not in known:
        pytest.skip("there is no JDK on this machine's PATH, which compiles Client.java as it starts it")
    jars = [
        path for path in JAR_CACHE.glob("*/*.jar") if path.name.startswith(("kafka-clients-", "slf4j-api-", "lz4-"))
    ]
    return [str(command), "-Xshare:auto", "-cp", ":".join(map(str, jars)), str(CLIENTS / "Client.java")]


CLIENT = pytest.mark.parametrize(
    "client",
    [lambda: python("aiokafka_client.py"), lambda: python("confluent_client.py"), java],
    ids=["aiokafka", "confluent-kafka", "java"],
)


async def run(client: list[str], bootstrap: str, topics: Topics, *arguments: str) -> str:
    environment = os.environ | {"DRIFTLINE_TOPIC_PREFIX": topics.prefix}
    process = await asyncio.create_subprocess_exec(
        *client, bootstrap, *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        said, complaint = await asyncio.wait_for(process.communicate(), 90)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, complaint.decode()
    return said.decode()


@CLIENT
async def test_an_event_that_is_sent_is_valid_and_where_its_slate_will_say(
    client: Callable[[], list[str]], bootstrap: str, topics: Topics, wire: Wire
) -> None:
    await wire.produce(topics.events, [(b"bert", b"to find the partition that Kafka's clients agree on")])
    (mark,) = await wire.read(topics.events)
    said = await run(client(), bootstrap, topics, "send", "bert", "50")
    record = (await wire.read(topics.events))[1]
    event = decode_event(record.key, record.value, record.timestamp, EventRules(actions=("view", "click")))
    assert isinstance(event, Interaction)
    assert (event.user, event.item, event.action) == ("bert", "50", "click")
    assert said.strip() == f"sent {record.partition}-{record.offset}"
    assert record.partition == mark.partition


@CLIENT
async def test_slates_and_erasures_are_followed(
    client: Callable[[], list[str]], bootstrap: str, topics: Topics, wire: Wire
) -> None:
    await wire.produce(topics.recommendations, [(b"42", encode(SLATE)), (b"43", None)], partition=0)
    said = (await run(client(), bootstrap, topics, "follow", "2")).splitlines()
    assert said[0].startswith("42") and all(item in said[0] for item in SLATE.items)
    assert said[1] == "43: forgotten"
