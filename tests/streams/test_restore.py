"""Reading topics to their end: everything committed, nothing aborted, and an end to it."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from streams.cluster import Cluster
from streams.restore import partitions_of, read_to_end, restore
from streams.store import MemoryStore
from streams.topics import Topics
from tests.conftest import Wire

pytestmark = pytest.mark.broker


async def test_reads_all_partitions_each_in_order(cluster: Cluster, topics: Topics, wire: Wire):
    for partition in range(3):
        await wire.produce(topics.events, [(b"k", b"%d" % number) for number in range(500)], partition=partition)
    found: dict[int, list[int]] = {}
    count = await read_to_end(
        cluster, topics.events, lambda record: found.setdefault(record.partition, []).append(int(record.value))
    )
    assert count == 1500
    assert found == {partition: list(range(500)) for partition in range(3)}
    one: list[int] = []
    assert await read_to_end(cluster, topics.events, lambda record: one.append(record.partition), partition=1) == 500
    assert set(one) == {1}
    assert await read_to_end(cluster, topics.items, one.append) == 0


async def test_what_was_aborted_or_is_not_committed_yet_is_not_there(cluster: Cluster, topics: Topics):
    producer = cluster.producer(transactional_id=f"{topics.prefix}t")
    await producer.start()
    for value, end in ((b"yes", "commit"), (b"aborted", "abort"), (b"also", "commit"), (b"open", None)):
        await producer.begin_transaction()
        await producer.send_and_wait(topics.models, value, key=b"k")
        if end:
            await getattr(producer, f"{end}_transaction")()
    found: list[bytes] = []
    async with asyncio.timeout(20):
        await read_to_end(cluster, topics.models, lambda record: found.append(record.value))
    await producer.abort_transaction()
    await producer.stop()
    assert found == [b"yes", b"also"]


async def test_restore_keeps_the_last_of_each_key_and_forgets_tombstones(cluster: Cluster, topics: Topics, wire: Wire):
    records = [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None)]
    await wire.produce(topics.state, records, partition=2)
    store = MemoryStore()
    assert await restore(cluster, TopicPartition(topics.state, 2), store) == 4
    assert (dict(store), store.position) == ({b"a": b"2"}, 4)


async def test_restore_goes_on_from_where_the_store_is(cluster: Cluster, topics: Topics, wire: Wire):
    await wire.produce(topics.state, [(b"a", b"1"), (b"b", b"1")], partition=2)
    store = MemoryStore()
    store.take({b"mine": b"1"}, 1)
    await wire.produce(topics.state, [(b"c", b"1")], partition=2)
    assert await restore(cluster, TopicPartition(topics.state, 2), store) == 2
    assert dict(store) == {b"mine": b"1", b"b": b"1", b"c": b"1"}


async def test_partitions_and_missing_topics(cluster: Cluster, topics: Topics):
    assert await partitions_of(cluster, topics.events) == [TopicPartition(topics.events, at) for at in range(4)]
    with pytest.raises(RuntimeError, match="topic nowhere does not exist: create it"):
        await read_to_end(cluster, "nowhere", lambda record: None)
