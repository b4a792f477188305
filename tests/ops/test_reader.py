"""Reading as an outsider, on a real broker."""

from __future__ import annotations

import asyncio

import pytest

from ops.errors import CliError
from ops.reader import Reader
from streams.cluster import Cluster
from streams.names import Topics
from tests.conftest import Wire

pytestmark = pytest.mark.broker


async def test_it_reads_from_the_start_and_knows_what_is_left(cluster: Cluster, topics: Topics, wire: Wire) -> None:
    await wire.produce(topics.events, [(b"k%d" % number, b"%d" % number) for number in range(20)])
    await wire.produce(topics.items, [(b"item", b"not asked for")])
    async with Reader(cluster, [topics.events]) as reader:
        ends = {topics.events: await reader.end(topics.events)}
        assert sum(ends[topics.events].values()) == 20
        assert set((await reader.first(topics.events)).values()) == {0}
        assert sum((await reader.end(topics.items)).values()) == 1
        assert await reader.behind(ends) == 20
        values: list[int] = []
        async with asyncio.timeout(20):
            while await reader.behind(ends):
                values += [int(record.value) for record in await reader.poll()]
        assert sorted(values) == list(range(20))
        assert await reader.poll(timeout_s=0.05) == []


async def test_it_knows_how_far_a_group_has_come(cluster: Cluster, topics: Topics, wire: Wire) -> None:
    await wire.produce(topics.events, [(None, b"x")] * 5, partition=2)
    group = f"{topics.prefix}group"
    options = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
    consumer = cluster.consumer(topics.events, group_id=group, **options)
    await consumer.start()
    for _ in range(3):
        record = await consumer.getone()
    await consumer.commit()
    await consumer.stop()
    async with Reader(cluster, [topics.events]) as reader:
        assert (await reader.committed(group, topics.events))[2] == record.offset + 1 == 3
        assert await reader.committed(group, topics.items) == {}
        assert await reader.committed("nobody", topics.events) == {}


async def test_a_missing_topic_is_named(cluster: Cluster) -> None:
    with pytest.raises(CliError, match=r"topic nowhere does not exist"):
        async with Reader(cluster, ["nowhere"]):
            pass
