"""Bad input at volume: every bad event is a dead letter as it came, and every good one between them is answered."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec
import pytest

from streams.cluster import Cluster
from streams.contracts import Recommendation
from streams.deadletters import ESCAPED, PREFIX, REASONS, dead_letter_headers, fit, original_name
from streams.engine import Engine
from streams.engine_config import EngineConfig
from streams.job import DeadLetter
from streams.names import Topics
from streams.pipeline import Pipeline
from tests import small
from tests.conftest import Wire
from tests.streams import odd
from tests.streams.malformed import ARRIVED, RARE, WAYS, Sent, malformed, odd_but_good

COUNT = 100_000
ON_THE_BROKER = int(os.environ.get("FUZZ_EVENTS", "8000"))  # `make fuzz`: 100,000
BATCH = 512
SEED = 20_261_124
PARTITION = 0


def mixed(bad: int, good: int, rare: int, arrived: int = ARRIVED) -> list[Sent]:
    """`good` events among `bad` ones."""
    sent = [*malformed(SEED, bad, rare, arrived), *odd_but_good(SEED, good, arrived)]
    random.Random(SEED).shuffle(sent)
    return sent


def records(sent: Sequence[Sent]) -> Iterator[small.FakeRecord]:
    for offset, one in enumerate(sent):
        yield small.FakeRecord(offset, one.key, one.value, ARRIVED, one.headers)  # type: ignore[arg-type]


def running() -> Pipeline:
    world = small.world()
    pipeline = Pipeline(small.config(), lambda: world)
    pipeline.assigned(PARTITION, {})
    return pipeline


def test_a_hundred_thousand_bad_events_and_the_good_ones_between_them() -> None:
    sent = mixed(COUNT, COUNT // 50, rare=2_000)
    pipeline, states, topics = running(), {}, Topics()
    covered: Counter[int] = Counter()
    dead: Counter[str] = Counter()
    remaining = records(sent)
    while batch := list(islice(remaining, BATCH)):
        effects = pipeline.apply(PARTITION, batch, states)
        bad = [record for record in batch if sent[record.offset].reasons]
        assert [letter.record.offset for letter in effects.dead] == [record.offset for record in bad]
        for letter, record in zip(effects.dead, bad, strict=True):
            was = sent[record.offset]
            assert letter.record is record, was.way  # its own bytes
            assert letter.reason in was.reasons and letter.reason in REASONS, (was.way, letter.reason, letter.message)
            assert len(letter.message) > 0
            _assert_writable(letter, was)
            dead[was.way] += 1
        for _, value, _ in effects.outputs.get(topics.recommendations, []):
            covered.update(msgspec.json.decode(value, type=Recommendation).covers)
        for key, value in effects.states.items():
            states[key] = value
    good = [offset for offset, one in enumerate(sent) if not one.reasons]
    assert covered == Counter(good)
    assert sum(dead.values()) == COUNT
    assert set(dead) == {name for name, _, _ in WAYS + RARE}


def _assert_writable(letter: DeadLetter, was: Sent) -> None:
    """What the engine makes of it can be written, and says what came."""
    record = letter.record
    place = ("events", PARTITION, record.offset, record.timestamp)
    headers = dead_letter_headers(record.headers, letter.reason, letter.message, *place)
    assert fit(record.key, record.value, headers) == (was.key, was.value, headers)
    assert _own_headers(headers) == _names_as_bytes(was.headers), was.way


def _own_headers(headers: Sequence[tuple[str, bytes]]) -> list[tuple[bytes, bytes]]:
    """The record's own headers, of those of its dead letter."""
    escaped = {int(at) for at in dict(headers).get(ESCAPED, b"").decode().split(",") if at}
    own = [(name, value) for name, value in headers if not name.startswith(PREFIX)]
    return [(original_name(name) if at in escaped else name.encode(), value) for at, (name, value) in enumerate(own)]


def _names_as_bytes(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[bytes, bytes | None]]:
    return [(name.encode(errors="surrogateescape"), value) for name, value in headers]


def test_the_work_for_a_batch_grows_with_its_size_and_not_faster() -> None:
    """Counted in function calls, so that a busy machine changes nothing."""

    def calls(size: int) -> int:
        pipeline, counted = running(), 0
        batch = list(records(list(malformed(SEED, size, rare=0))))

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal counted
            counted += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            pipeline.apply(PARTITION, batch, {})
        finally:
            sys.setprofile(None)
        return counted

    assert calls(2_000) < 2.2 * calls(1_000)


@pytest.mark.broker
@pytest.mark.timeout(900)
@pytest.mark.parametrize("partitions", [2])
async def test_on_a_broker_each_is_a_dead_letter_once_and_the_good_ones_are_answered(
    wire: Wire, topics: Topics, cluster: Cluster
) -> None:
    arrived = time.time_ns() // 1_000_000  # older ones would soon be gone: the topic's retention
    events = mixed(ON_THE_BROKER, ON_THE_BROKER // 25, ON_THE_BROKER // 5, arrived)
    sent = await _send(cluster, topics, events, arrived)
    config = EngineConfig(cluster, f"{topics.prefix}app", topics.events, topics.state, topics.events_dlq)
    world = small.world()
    engine = Engine(config, Pipeline(small.config(topics), lambda: world))
    task = asyncio.create_task(engine.run())
    try:
        while sum(one["next_offset"] for one in engine.status().values()) < len(sent) and not task.done():
            await asyncio.sleep(0.1)
    finally:
        engine.stop()
        await task
    letters: Counter[tuple[int, int]] = Counter()
    for letter in await wire.read(topics.events_dlq):
        told = {name: (value or b"").decode() for name, value in letter.headers if name.startswith(PREFIX)}
        place = int(told["driftline-source-partition"]), int(told["driftline-source-offset"])
        was = sent[place]
        assert told["driftline-reason"] in was.reasons and told["driftline-message"], was.way
        assert (letter.key, letter.value) == (was.key, was.value), was.way
        assert _own_headers(letter.headers) == _names_as_bytes(was.headers), was.way
        letters[place] += 1
    assert letters == Counter(place for place, one in sent.items() if one.reasons)
    covered = Counter(
        (record.partition, offset)
        for record in await wire.read(topics.recommendations)
        for offset in msgspec.json.decode(record.value, type=Recommendation).covers
    )
    assert covered == Counter(place for place, one in sent.items() if not one.reasons)


async def _send(cluster: Cluster, topics: Topics, events: Iterable[Sent], arrived: int) -> dict[tuple[int, int], Sent]:
    """Send them to two partitions; return them by partition and offset."""
    acknowledged = []
    async with odd.producer(cluster, max_request_size=2**21, linger_ms=5) as producer:
        for number, one in enumerate(events):
            headers = odd.odd(_names_as_bytes(one.headers))
            place = {"partition": number % 2, "timestamp_ms": arrived}
            future = await producer.send(topics.events, one.value, one.key, headers=headers, **place)
            acknowledged.append((future, one))
        return {(done.partition, done.offset): one for future, one in acknowledged if (done := await future)}
