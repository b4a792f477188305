"""Finding records from a topic's end, and following what comes."""

from __future__ import annotations

import asyncio

import pytest

from ops.errors import CliError
from ops.newest import coming, newest
from streams.cluster import Cluster
from streams.names import Topics
from tests.conftest import Wire

pytestmark = pytest.mark.broker


@pytest.fixture
async def history(topics: Topics, wire: Wire) -> str:
    """A topic with 600 values 0…599 of the keys k0…k5 in turn, and one early value of the key `rare`."""
    await wire.produce(topics.events, [(b"rare", b"first")])
    await wire.produce(topics.events, [(f"k{n % 6}".encode(), str(n).encode()) for n in range(600)])
    return topics.events


async def values(cluster: Cluster, topic: str, *keys: bytes, window: int = 1000) -> dict[bytes, bytes | None]:
    return {key: record.value for key, record in (await newest(cluster, topic, keys, window)).items()}


@pytest.mark.parametrize("window", [1, 20, 1000])
async def test_the_newest_of_each_key_however_far_back(cluster, history, window):
    found = await values(cluster, history, b"k1", b"k5", b"rare", window=window)
    assert found == {b"k1": b"595", b"k5": b"599", b"rare": b"first"}


async def test_what_is_not_there_is_not_found(cluster, topics, history):
    assert await values(cluster, history, b"nobody", b"k0", window=50) == {b"k0": b"594"}
    assert await values(cluster, topics.outcomes, b"k0") == {}
    assert await values(cluster, history) == {}


async def test_a_tombstone_is_the_newest_too(cluster, history, wire):
    await wire.produce(history, [(b"k2", None)])
    assert await values(cluster, history, b"k2") == {b"k2": None}


async def test_of_a_key_in_two_partitions_the_later_counts(cluster, topics, wire):
    for at, value in ((3, b"old"), (0, b"middle"), (2, b"new"), (1, b"of another")):
        await wire.produce(topics.events, [(b"u" if value != b"of another" else b"v", value)], partition=at)
        await asyncio.sleep(0.005)  # timestamps are in milliseconds
    assert await values(cluster, topics.events, b"u") == {b"u": b"new"}


async def test_what_a_transaction_took_back_is_not_found(cluster, topics):
    producer = cluster.producer(transactional_id=f"{topics.prefix}t")
    await producer.start()
    async with producer.transaction():
        await producer.send(topics.events, key=b"u", value=b"said")
    await producer.begin_transaction()
    await producer.send(topics.events, key=b"u", value=b"taken back")
    await producer.flush()
    await producer.abort_transaction()
    await producer.stop()
    assert await values(cluster, topics.events, b"u", window=1) == {b"u": b"said"}


async def test_a_topic_that_is_not_there_is_named(cluster):
    with pytest.raises(CliError, match="topic nowhere does not exist"):
        await newest(cluster, "nowhere", [b"u"])


async def test_what_comes_is_what_was_written_since(cluster, history, wire):
    following = coming(cluster, history)
    waiting = asyncio.create_task(anext(following))
    seen: list[bytes] = []
    number = 0
    while not waiting.done():  # it begins to follow some time after it was asked to
        await wire.produce(history, [(b"k0", f"new {number}".encode())])
        number += 1
    seen += [record.value for record in waiting.result()]
    while len(seen) < 3:
        await wire.produce(history, [(b"k0", f"new {number}".encode())])
        number += 1
        seen += [record.value for record in await anext(following)]
    await following.aclose()
    first = int(seen[0].split()[1])
    assert seen == [f"new {n}".encode() for n in range(first, first + len(seen))]


async def test_a_topic_is_read_whole_before_the_other_is_followed(cluster, topics, history, wire):
    await wire.produce(topics.items, [(f"i{n}".encode(), b"x") for n in range(2000)])
    following = coming(cluster, history, whole=topics.items)
    first = await anext(following)
    assert {record.key for record in first} == {f"i{n}".encode() for n in range(2000)}
    await wire.produce(history, [(b"k0", b"new")])
    await wire.produce(topics.items, [(b"i2000", b"x")])
    later = {record.key for record in await anext(following)}
    while later < {b"k0", b"i2000"}:
        later |= {record.key for record in await anext(following)}
    assert later == {b"k0", b"i2000"}
    await following.aclose()
