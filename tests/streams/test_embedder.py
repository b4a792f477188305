"""The embedder: one vector for each item, none lost, whatever fails."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import stamina
from aiokafka.admin import AIOKafkaAdminClient
from structlog.testing import capture_logs

from streams.cluster import Cluster
from streams.contracts import Item, ItemVector, encode, item_text
from streams.embedder import CaughtUp, Embedder, EmbedderConfig, VectorCache, _answer, build_app
from streams.host import run
from streams.names import Topics
from tests.conftest import Wire

DIMENSION = 4


class TinyEncoder:
    """A text's vector is its hash; counts texts, and raises or waits on demand."""

    fingerprint = "tiny"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def encode(self, texts: list[str]) -> np.ndarray:
        self.batches.append(texts)
        self.gate.wait(30)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("encoder out of order")
        return np.stack([vector(text) for text in texts])


def vector(text: str) -> np.ndarray:
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=DIMENSION).digest(), np.uint8).astype(np.float32)


def item(number: int) -> Item:
    return Item(item=f"i{number}", title=f"Film {number}", categories=["Drama"], year=1990)


def record(value: Item) -> tuple[bytes, bytes]:
    return value.item.encode(), encode(value)


def as_vector(value: bytes) -> ItemVector:
    return msgspec.json.decode(value, type=ItemVector)


# --- without a broker -------------------------------------------------------------------------------------


def test_a_vector_is_the_encoding_of_the_items_text_and_carries_what_filters_need():
    (made,) = VectorCache(TinyEncoder(), 10).vectors([item(1)])
    np.testing.assert_array_equal(np.frombuffer(made.vector_f32, "<f4"), vector(item_text(item(1))))
    assert (made.item, made.encoder, made.title, made.categories, made.year) == (
        "i1",
        "tiny",
        "Film 1",
        ["Drama"],
        1990,
    )
    assert made.text_hash == hashlib.blake2b(item_text(item(1)).encode(), digest_size=8).hexdigest()
    assert not made.withdrawn
    (gone,) = VectorCache(TinyEncoder(), 10).vectors([msgspec.structs.replace(item(1), withdrawn=True)])
    assert gone.withdrawn and gone.vector_f32 == made.vector_f32


def test_a_known_text_is_not_encoded_again():
    encoder = TinyEncoder()
    cache = VectorCache(encoder, 10)
    twin = msgspec.structs.replace(item(1), item="twin")
    first = cache.vectors([item(1), twin, item(2)])
    again = cache.vectors([item(2), item(1)])
    assert [len(batch) for batch in encoder.batches] == [2]
    assert first[0].vector_f32 == first[1].vector_f32 == again[1].vector_f32
    assert [made.item for made in first] == ["i1", "twin", "i2"]


def test_the_memory_is_bounded_and_forgets_the_longest_unused():
    encoder = TinyEncoder()
    cache = VectorCache(encoder, 2)
    for number in (1, 2, 1, 3, 1, 2):
        cache.vectors([item(number)])
    assert [batch[0].split(" (")[0] for batch in encoder.batches] == ["Film 1", "Film 2", "Film 3", "Film 2"]


def test_more_texts_at_once_than_the_memory_holds():
    made = VectorCache(TinyEncoder(), 2).vectors([item(number) for number in range(5)])
    assert [v.item for v in made] == ["i0", "i1", "i2", "i3", "i4"]


@pytest.mark.parametrize(
    "answer", [np.zeros((1, 4), np.float64), np.zeros((2, 4), np.float32), np.full((1, 4), np.nan, np.float32)]
)
def test_an_encoder_that_answers_nonsense_is_named(answer):
    encoder = SimpleNamespace(fingerprint="odd", encode=lambda texts: answer)
    with pytest.raises(ValueError, match=r"encoder odd gave .* expected finite float32 \[1, dimension\]"):
        VectorCache(encoder, 2).vectors([item(1)])


def message(key: bytes | None, value: bytes | None, offset: int = 7) -> SimpleNamespace:
    return SimpleNamespace(
        key=key, value=value, headers=(("trace", b"\x01"),), topic="items", partition=2, offset=offset, timestamp=1.7e9
    )


def offline(encoder: TinyEncoder | None = None) -> Embedder:
    config = EmbedderConfig(cluster=Cluster(""), group="", topics=Topics(), folder=Path())
    return Embedder(encoder or TinyEncoder(), config)


def test_answers_keep_the_order_of_the_records():
    records = [message(*record(item(1))), message(b"i2", None), message(b"x", b"{"), message(*record(item(3)))]
    answers = offline().outgoing(records)
    assert [(a.topic, a.key) for a in answers] == [
        ("item_vectors", b"i1"),
        ("item_vectors", b"i2"),
        ("items.dlq", b"x"),
        ("item_vectors", b"i3"),
    ]
    assert answers[1].value is None


def test_a_tombstone_without_a_key_is_a_dead_letter():
    (answer,) = offline().outgoing([message(None, None)])
    assert answer.topic == "items.dlq"
    assert dict(answer.headers)["driftline-reason"] == b"wrong_key"


class FakeTopic:
    """Remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def send(self, key: bytes, value: bytes, headers: object) -> asyncio.Future[None]:
        self.sent.append(key)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def fetched(number: int, generation: int) -> SimpleNamespace:
    made = message(*record(item(number)))
    made.generation_id = generation
    return SimpleNamespace(message=made)


async def test_what_was_fetched_before_a_rebalance_is_neither_answered_nor_acknowledged():
    topic, app = FakeTopic(), SimpleNamespace(consumer_generation_id=2)
    old, new = fetched(1, generation=1), fetched(2, generation=2)
    answered = await _answer([old, new], offline(), {"item_vectors": topic}, app)
    assert (answered, topic.sent) == ([new], [b"i2"])


async def test_a_rebalance_during_encoding_drops_the_answers():
    encoder = TinyEncoder()
    encoder.gate.clear()
    topic, app = FakeTopic(), SimpleNamespace(consumer_generation_id=2)
    answering = asyncio.create_task(_answer([fetched(1, generation=2)], offline(encoder), {"item_vectors": topic}, app))
    await until_true(lambda: bool(encoder.batches))
    app.consumer_generation_id = 3
    encoder.gate.set()
    assert (await answering, topic.sent) == ([], [])


def test_it_says_that_it_has_caught_up_when_nothing_has_come_for_a_while():
    class Timer:
        cancelled = False

        def cancel(self):
            self.cancelled = True

    timers = []

    def later(seconds, say):
        timers.append((Timer(), say))
        return timers[-1][0]

    caught_up = CaughtUp(later)
    with capture_logs() as said:
        for records in (3, 4):
            caught_up.working()
            caught_up.answered(records)
        for timer, say in timers:
            if not timer.cancelled:
                say()
    assert [(one["event"][:9], one["records"]) for one in said] == [("caught up", 7)]


# --- on a real broker -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def embedding(config: EmbedderConfig, encoder: TinyEncoder) -> AsyncIterator[asyncio.Task[None]]:
    """Run an embedder for the time of the block."""
    app = build_app(config, encoder)
    task = asyncio.create_task(run(app))
    try:
        yield task
    finally:
        await app.stop()
        with contextlib.suppress(Exception):
            await task


@pytest.fixture
def config(cluster: Cluster, topics: Topics, tmp_path: Path) -> EmbedderConfig:
    return EmbedderConfig(cluster=cluster, group=f"{topics.prefix}embed", topics=topics, folder=tmp_path)


async def until(wire: Wire, topic: str, count: int) -> list:
    """Return the topic's records when there are at least `count`."""
    while True:
        if len(records := await wire.read(topic)) >= count:
            return records
        await asyncio.sleep(0.1)


async def until_true(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.02)


@pytest.mark.broker
async def test_items_become_vectors_and_tombstones_stay_tombstones(config, topics, wire):
    await wire.produce(topics.items, [record(item(number)) for number in range(100)])
    async with embedding(config, TinyEncoder()):
        await until(wire, topics.item_vectors, 100)
        await wire.produce(topics.items, [(b"i5", None)])
        records = await until(wire, topics.item_vectors, 101)
    by_key = {r.key: r.value for r in records}
    assert by_key.pop(b"i5") is None
    assert by_key.keys() == {f"i{number}".encode() for number in range(100) if number != 5}
    np.testing.assert_array_equal(np.frombuffer(as_vector(by_key[b"i7"]).vector_f32, "<f4"), vector(item_text(item(7))))
    assert await wire.read(topics.items_dlq) == []


@pytest.mark.broker
async def test_a_bad_item_is_dead_lettered_as_it_came_and_stops_nothing(config, topics, wire):
    bad = json.dumps({"item": "i1", "title": "Film", "year": "soon"}).encode()
    await wire.produce(topics.items, [(b"i1", bad), record(item(2)), (b"other", encode(item(3)))], partition=3)
    async with embedding(config, TinyEncoder()):
        (made,) = await until(wire, topics.item_vectors, 1)
        letters = await until(wire, topics.items_dlq, 2)
    assert made.key == b"i2"
    assert {(letter.key, letter.value) for letter in letters} == {(b"i1", bad), (b"other", encode(item(3)))}
    headers = {letter.key: dict(letter.headers) for letter in letters}
    assert headers[b"i1"]["driftline-reason"] == b"schema"
    assert b"year" in headers[b"i1"]["driftline-message"]
    assert headers[b"i1"]["driftline-source-topic"] == topics.items.encode()
    assert headers[b"other"]["driftline-source-partition"] == b"3"
    assert headers[b"other"]["driftline-source-offset"] == b"2"
    assert int(headers[b"other"]["driftline-source-time"]) > 1_700_000_000_000
    assert headers[b"other"]["driftline-reason"] == b"wrong_key"


@pytest.mark.broker
async def test_an_encoder_that_fails_for_a_while_loses_nothing(config, topics, wire):
    await wire.produce(topics.items, [record(item(number)) for number in range(50)])
    encoder = TinyEncoder(failures=2)
    with stamina.set_testing(True, attempts=5):
        async with embedding(config, encoder):
            records = await until(wire, topics.item_vectors, 50)
    assert encoder.failures == 0
    assert {r.key for r in records} == {f"i{number}".encode() for number in range(50)}


@pytest.mark.broker
async def test_an_encoder_that_goes_on_failing_stops_the_embedder_and_the_next_one_misses_nothing(config, topics, wire):
    await wire.produce(topics.items, [record(item(number)) for number in range(50)])
    with stamina.set_testing(True, attempts=2):
        async with embedding(config, TinyEncoder(failures=1000)) as task:
            with pytest.raises(RuntimeError, match="encoder out of order"):
                await task
    assert await wire.read(topics.item_vectors) == []
    async with embedding(config, TinyEncoder()):
        records = await until(wire, topics.item_vectors, 50)
    assert {r.key for r in records} == {f"i{number}".encode() for number in range(50)}


@pytest.mark.broker
async def test_a_kill_in_the_middle_of_a_batch_loses_nothing_and_does_not_start_over(config, topics, wire):
    await wire.produce(topics.items, [record(item(number)) for number in range(20)])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUCK_EMBEDDER, topics.prefix, str(config.cluster), str(config.folder)
    )
    try:
        await until(wire, topics.item_vectors, 20)
        await until_committed(config, 20)
        await wire.produce(topics.items, [record(item(number)) for number in range(20, 60)])
        await until_true((config.folder / "stuck").exists)
        await asyncio.sleep(2)  # longer than it takes to commit what is wrongly acknowledged
    finally:
        process.kill()
        await process.wait()
    encoder = TinyEncoder()
    async with embedding(config, encoder):
        records = await until(wire, topics.item_vectors, 60)
    assert {r.key for r in records} == {f"i{number}".encode() for number in range(60)}
    again = {text for batch in encoder.batches for text in batch}
    assert again == {item_text(item(number)) for number in range(20, 60)}


STUCK_EMBEDDER = """
import asyncio, sys, time
from pathlib import Path
from streams.cluster import Cluster
from streams.embedder import EmbedderConfig, build_app
from streams.host import run
from streams.names import Topics
from tests.streams.test_embedder import TinyEncoder

prefix, bootstrap, folder = sys.argv[1:]

class Stuck(TinyEncoder):
    def encode(self, texts):
        if any("Film 2" in text and text >= "Film 20" for text in texts):
            Path(folder, "stuck").touch()
            time.sleep(60)
        return super().encode(texts)

async def main():
    config = EmbedderConfig(
        cluster=Cluster(bootstrap),
        group=f"{prefix}embed",
        topics=Topics(prefix),
        folder=Path(folder),
        session_timeout_s=6.0,
    )
    await run(build_app(config, Stuck()))

asyncio.run(main())
"""


async def until_committed(config: EmbedderConfig, total: int) -> None:
    """Return when the group's committed offsets of `items` add up to `total`."""
    admin = config.cluster.admin()
    await admin.start()
    try:
        while True:
            if sum((await committed(admin, config)).values()) >= total:
                return
            await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def committed(admin: AIOKafkaAdminClient, config: EmbedderConfig) -> dict[int, int]:
    offsets = await admin.list_consumer_group_offsets(config.group)
    return {place.partition: at.offset for place, at in offsets.items() if place.topic == config.topics.items}


@pytest.mark.broker
async def test_a_second_embedder_that_joins_in_the_middle_of_a_batch_loses_nothing(config, topics, wire):
    await wire.produce(topics.items, [record(item(number)) for number in range(300)])
    slow = TinyEncoder()
    slow.gate.clear()
    async with embedding(config, slow):
        await until_true(lambda: bool(slow.batches))
        async with embedding(config, TinyEncoder()):
            await asyncio.sleep(2)  # the rebalance begins, and waits for the batch
            slow.gate.set()
            records = await until(wire, topics.item_vectors, 300)
            await until_committed(config, 300)
    assert {r.key for r in records} == {f"i{number}".encode() for number in range(300)}
