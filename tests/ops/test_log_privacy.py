"""No payload and no id above debug: whatever goes wrong, and although errors like to quote what they choked on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SECRET = "anna-4711"

PROGRAM = f"""
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from aiokafka import ConsumerRecord, TopicPartition
import structlog
from ops.connection import configure_logs
from streams.broadcast import Broadcast, Shelf
from streams.cluster import Cluster
from streams.contracts import encode
from streams.engine_config import EngineConfig
from streams.learner import EstimatorTerm, LearnerConfig
from streams.names import Topics
from streams.partition import HandlerBroken, Means, Partition
from streams.store import MemoryStores
from tests import small
from msgspec.structs import replace

configure_logs()
SECRET = {SECRET!r}
NOWHERE = Cluster("127.0.0.1:9")

class Choking:
    def assigned(self, partition, states): ...
    def revoked(self, partition): ...
    def apply(self, partition, records, states):
        try:
            {{}}[SECRET]
        except KeyError as error:
            raise ValueError(f"what is {{SECRET}}?") from error

class Pair:
    async def commit(self, *rest):
        return {{}}

async def choke_on_events():
    config = EngineConfig(NOWHERE, "app", "events", "state", "dead", poison_limit=2)
    stores = MemoryStores(lambda key, value: None)
    means = Means(config, Choking(), stores, ThreadPoolExecutor(1))
    partition = Partition(TopicPartition("events", 0), means, None, SimpleNamespace(parked=lambda: None))
    partition._store = stores.open(0)
    records = [small.FakeRecord(offset, SECRET.encode(), SECRET.encode()) for offset in range(4)]
    try:
        await partition._process(Pair(), records)
    except HandlerBroken as error:
        partition._seconds_until_retry(error, 0)
    partition._seconds_until_retry(ValueError(SECRET), 0)

async def choke_on_outcomes():
    term = EstimatorTerm(LearnerConfig(NOWHERE, "app", "o", "m"), ThreadPoolExecutor(1), asyncio.Event())
    for value in (replace(small.outcome([SECRET]), rewards=[]), replace(small.outcome([SECRET, SECRET]), candidates=1)):
        term._learn([SimpleNamespace(value=encode(value), partition=0, offset=1)])
    term._learn([SimpleNamespace(value=b'{{"user": "' + SECRET.encode(), partition=0, offset=1)])

async def choke_on_items():
    broadcast = Broadcast(NOWHERE, Topics(), lambda pointer: None)
    record = SimpleNamespace(key=SECRET.encode(), value=b'{{"item": "' + SECRET.encode() + b'"}}', offset=1)
    broadcast._tell({{TopicPartition("item_vectors", 0): [record], TopicPartition("models", 0): [record]}})
    shelf = Shelf(lambda pointer: None)
    shelf._world = small.world()
    shelf.tell_items([(SECRET, SimpleNamespace(encoder="small", vector_f32=b"." * 64))], (1,))
    shelf.world()

asyncio.run(choke_on_events())
asyncio.run(choke_on_outcomes())
asyncio.run(choke_on_items())
try:
    raise ValueError(SECRET)
except ValueError:
    structlog.get_logger().exception("anything else")
"""


def run(**environment: str) -> list[dict[str, str]]:
    """What the program logged, line by line."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", PROGRAM],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def quiet() -> list[dict[str, str]]:
    return run()


def test_every_line_is_json_where_there_is_no_terminal_and_holds_no_id_and_no_payload(
    quiet: list[dict[str, str]],
) -> None:
    events = {line["event"] for line in quiet}
    assert events == {
        "handler failed, bisecting",
        "poison record",
        "parked",
        "outcome skipped",
        "record left out",
        "a change of the world was dropped",
        "anything else",
    }
    assert all(line["level"] != "debug" and line["timestamp"].endswith("Z") for line in quiet)
    assert SECRET not in json.dumps(quiet)


def test_it_still_says_which_kind_of_error_and_where(quiet: list[dict[str, str]]) -> None:
    (poison, *_) = [line for line in quiet if line["event"] == "poison record"]
    assert "KeyError" in poison["way"] and "ValueError at <string>:" in poison["way"] and "in apply" in poison["way"]
    (broken, other) = [line["error"] for line in quiet if line["event"] == "parked"]
    assert broken.startswith("HandlerBroken: ") and "events-0, at offset" in broken
    assert other == "ValueError"


def test_debug_shows_what_it_was_about() -> None:
    lines = run(DRIFTLINE_DEBUG="1")
    assert {line["level"] for line in lines} >= {"debug", "warning"}
    assert SECRET in json.dumps(lines)
