"""Reading `events` and `outcomes` in spans that can be read again. Knows Kafka; knows nothing of what records mean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from streams.cluster import Cluster
from streams.contracts import RoundEnds
from streams.restore import partitions_of

log = structlog.get_logger(__name__)

Batches = dict[int, list[ConsumerRecord]]
"""Records by partition, in order of offset."""

WAIT_MS = 200


class Spans:
    """A consumer without a group over both topics. Anything it raises leaves it of no use: close it, open another."""

    def __init__(self, cluster: Cluster, events: str, outcomes: str) -> None:
        self._cluster, self._events, self._outcomes = cluster, events, outcomes
        self._consumer = cluster.consumer(fetch_max_wait_ms=WAIT_MS)

    async def open(self, ends: RoundEnds) -> None:
        """Stand at `ends`; where a partition has no end yet, or the log no longer has it, at its start."""
        sources = [
            source for topic in (self._events, self._outcomes) for source in await partitions_of(self._cluster, topic)
        ]
        await self._consumer.start()
        self._consumer.assign(sources)
        begins = await self._consumer.beginning_offsets(sources)
        for source in sources:
            at = self._by_partition(source.topic, ends).get(str(source.partition), begins[source])
            if at < begins[source]:
                log.warning(
                    "records are missing from the log: training goes on without them",
                    topic=source.topic,
                    partition=source.partition,
                    wanted=at,
                    found=begins[source],
                )
            self._consumer.seek(source, max(at, begins[source]))

    async def close(self) -> None:
        """Close the connections."""
        with suppress(KafkaError, OSError):
            await self._consumer.stop()

    async def collect(self, least: int, most: int, seconds: float, leave: asyncio.Event) -> tuple[Batches, Batches]:
        """The next events and outcomes: until `least` events are there or `seconds` have passed, at most `most` events
        and what else is there already. Nothing when told to leave."""
        until = time.monotonic() + seconds
        found: tuple[Batches, Batches] = {}, {}
        while not leave.is_set():
            count = _count(found[0])
            enough = count >= least or (count > 0 and time.monotonic() >= until)
            if count >= most or (not await self._take(found, 0 if enough else WAIT_MS, most - count) and enough):
                return found
        return {}, {}

    async def read_until(self, ends: RoundEnds) -> tuple[Batches, Batches]:
        """What lies between here and `ends`; then stand there."""
        found: tuple[Batches, Batches] = {}, {}
        targets = {source: self._by_partition(source.topic, ends) for source in self._consumer.assignment()}
        wanted = {
            source: by_partition[str(source.partition)]
            for source, by_partition in targets.items()
            if str(source.partition) in by_partition
        }
        while any([await self._consumer.position(source) < end for source, end in wanted.items()]):
            await self._take(found, WAIT_MS, 10_000)
        for source in self._consumer.assignment():
            batches = found[source.topic != self._events]
            begin = batches[source.partition][0].offset if batches.get(source.partition) else None
            if source in wanted:
                self._consumer.seek(source, wanted[source])
                batches[source.partition] = [
                    record for record in batches.get(source.partition, []) if record.offset < wanted[source]
                ]
            elif begin is not None:  # a partition that this round knows nothing of
                self._consumer.seek(source, begin)
                batches.pop(source.partition)
        return _without_empty(found[0]), _without_empty(found[1])

    def lag(self, ends: RoundEnds) -> int:
        """Events (and transaction markers) that are in the topic and not learned yet."""
        return sum(
            max(0, (self._consumer.highwater(source) or 0) - ends.events.get(str(source.partition), 0))
            for source in self._consumer.assignment()
            if source.topic == self._events
        )

    async def _take(self, found: tuple[Batches, Batches], timeout_ms: int, most: int) -> int:
        batches = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=most)
        for source, records in batches.items():
            found[source.topic != self._events].setdefault(source.partition, []).extend(records)
        return sum(map(len, batches.values()))

    def _by_partition(self, topic: str, ends: RoundEnds) -> Mapping[str, int]:
        return ends.events if topic == self._events else ends.outcomes


async def ends_of(cluster: Cluster, topic: str) -> dict[int, int]:
    """Next offset of each partition of a topic."""
    sources = await partitions_of(cluster, topic)
    consumer = cluster.consumer()
    await consumer.start()
    try:
        return {source.partition: end for source, end in (await consumer.end_offsets(sources)).items()}
    finally:
        await consumer.stop()


def after(ends: RoundEnds, events: Mapping[int, Sequence[ConsumerRecord]], outcomes: Batches) -> RoundEnds:
    """Where a round that holds these records ends."""
    return RoundEnds(ends.events | _next(events), ends.outcomes | _next(outcomes))


def _next(batches: Mapping[int, Sequence[ConsumerRecord]]) -> dict[str, int]:
    return {str(partition): records[-1].offset + 1 for partition, records in batches.items() if records}


def _count(batches: Batches) -> int:
    return sum(map(len, batches.values()))


def _without_empty(batches: Batches) -> Batches:
    return {partition: records for partition, records in batches.items() if records}
