"""Finding records without an index: the newest of a few keys, and whatever comes next. Committed records, no group.

Knows nothing of what keys and values mean.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition

from ops.errors import CliError
from streams.cluster import Cluster, running
from streams.restore import TopicMissing, partitions_of

WINDOW = 1000  # offsets of each partition that are read first

Places = Mapping[TopicPartition, int]


async def newest(cluster: Cluster, topic: str, keys: Collection[bytes], window: int = WINDOW) -> dict[bytes, Any]:
    """Return the newest record of each of `keys` that the topic has, by key; tombstones too.

    All partitions are read, in windows from their ends backwards, each four times as long as the last, until every
    key was found: which partition a key is in depends on the client that wrote it. Of a key in several partitions
    the record with the latest timestamp counts, among those in the window that has one.
    """
    async with _consumer(cluster, topic) as consumer:
        begins = await consumer.beginning_offsets(consumer.assignment())
        ends = await consumer.end_offsets(consumer.assignment())
        found: dict[bytes, ConsumerRecord] = {}
        while len(found) < len(set(keys)) and any(ends[place] > begins[place] for place in ends):
            starts = {place: max(begins[place], end - window) for place, end in ends.items()}
            wanted = set(keys) - found.keys()
            async for record in _between(consumer, starts, ends):
                known = found.get(record.key)
                if record.key in wanted and (known is None or record.timestamp >= known.timestamp):
                    found[record.key] = record
            ends, window = starts, window * 4
        return found


async def coming(cluster: Cluster, topic: str, whole: str | None = None) -> AsyncIterator[list[Any]]:
    """Yield the records of a topic that are written from now on, in the batches they come in; never ends.

    The topic `whole` is read from its start instead, and up to its present end before anything of the other.
    """
    async with _consumer(cluster, topic, *([whole] if whole else [])) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        background = {place: end for place, end in ends.items() if place.topic == whole}
        for place in ends.keys() - background.keys():
            consumer.seek(place, ends[place])
        if background:
            begins = await consumer.beginning_offsets(list(background))
            yield [record async for record in _between(consumer, begins, background)]
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            if records := [record for batch in batches.values() for record in batch]:
                yield records


@asynccontextmanager
async def _consumer(cluster: Cluster, *topics: str) -> AsyncIterator[Any]:
    places = [place for topic in topics for place in await _places(cluster, topic)]
    async with running(cluster.consumer()) as consumer:
        consumer.assign(places)
        yield consumer


async def _places(cluster: Cluster, topic: str) -> list[TopicPartition]:
    try:
        return await partitions_of(cluster, topic)
    except TopicMissing as error:
        raise CliError(str(error)) from error


async def _between(consumer: Any, starts: Places, ends: Places) -> AsyncIterator[ConsumerRecord]:
    """Yield what lies from `starts` up to and without `ends`, partitions mixed."""
    for place, start in starts.items():
        consumer.seek(place, start)
    while left := [place for place, end in ends.items() if await consumer.position(place) < end]:
        for place, records in (await consumer.getmany(*left, timeout_ms=1000)).items():
            for record in records:
                if record.offset < ends[place]:
                    yield record
    # What was fetched beyond an end comes again when it is asked for.
    for place, end in ends.items():
        consumer.seek(place, end)
