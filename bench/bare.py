"""The same job by a minimal hand-written loop: what Kafka's transactions cost without an engine around them.

Two producers in turn for each partition, and nothing else: no group, no restore, no thread for the work, no check of
offsets, no retry, no dead letters. Not for use.

A process of its own: `python -m bench.bare BOOTSTRAP PREFIX PLAN`, where PLAN is JSON.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from bench.job import Counting, Plan
from streams.cluster import Cluster
from streams.job import OutputRecord
from streams.names import Topics
from streams.restore import partitions_of

MOST_RECORDS = 512


class Partition:
    """One input partition: its two producers and its states."""

    def __init__(self, cluster: Cluster, topics: Topics, source: TopicPartition, job: Counting) -> None:
        self._topics, self._source, self._job = topics, source, job
        self._states: dict[bytes, bytes] = {}
        self._turn = 0
        self._producers = [
            cluster.producer(
                transactional_id=f"{topics.prefix}bare-{source.partition}-{turn}",
                max_batch_size=2**19,
                max_request_size=2**23,
            )
            for turn in (0, 1)
        ]

    async def open(self) -> None:
        for producer in self._producers:
            await producer.start()

    async def process(self, records: Sequence[ConsumerRecord]) -> None:
        """Count `records`, at most MOST_RECORDS in a transaction."""
        for start in range(0, len(records), MOST_RECORDS):
            await self._transaction(records[start : start + MOST_RECORDS])

    async def _transaction(self, records: Sequence[ConsumerRecord]) -> None:
        effects = self._job.apply(self._source.partition, records, self._states)
        states: list[OutputRecord] = [(key, value, ()) for key, value in effects.states.items()]
        producer = self._producers[self._turn]
        self._turn = 1 - self._turn
        async with producer.transaction():
            sent = []
            for topic, outputs in [*effects.outputs.items(), (self._topics.state, states)]:
                batch = producer.create_batch()
                for key, value, _ in outputs:
                    if batch.append(key=key, value=value, timestamp=None) is None:
                        sent.append(await producer.send_batch(batch, topic, partition=self._source.partition))
                        batch = producer.create_batch()
                        batch.append(key=key, value=value, timestamp=None)
                sent.append(await producer.send_batch(batch, topic, partition=self._source.partition))
            offset = records[-1].offset + 1
            await producer.send_offsets_to_transaction({self._source: offset}, f"{self._topics.prefix}bare")
            await asyncio.gather(*sent)
        self._states.update({key: value for key, value in effects.states.items() if value is not None})


async def serve(cluster: Cluster, topics: Topics, plan: Plan) -> None:
    """Run until killed."""
    sources = await partitions_of(cluster, topics.events)
    consumer = cluster.consumer(fetch_max_wait_ms=200)
    await consumer.start()
    consumer.assign(sources)
    partitions = {source: Partition(cluster, topics, source, Counting(plan, topics)) for source in sources}
    for partition in partitions.values():
        await partition.open()
    while True:
        batches = await consumer.getmany(timeout_ms=50, max_records=4 * MOST_RECORDS)
        await asyncio.gather(*(partitions[source].process(records) for source, records in batches.items()))


if __name__ == "__main__":
    asyncio.run(serve(Cluster(sys.argv[1]), Topics(sys.argv[2]), msgspec.json.decode(sys.argv[3], type=Plan)))
