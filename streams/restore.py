"""Reading a topic, or one partition of it, from its start to its end: what comes before going on.

Knows compaction and `read_committed`; knows nothing about what keys and values mean.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streams.cluster import MAX_FETCH_BYTES, Cluster
from streams.store import Store

log = structlog.get_logger(__name__)


async def read_to_end(
    cluster: Cluster, topic: str, take: Callable[[ConsumerRecord], None], partition: int | None = None
) -> int:
    """Call `take` with every committed record that the topic (or one partition of it) holds now; return their number.

    In order within a partition; partitions come mixed. Raises RuntimeError when there is no such topic.
    """
    sources = await partitions_of(cluster, topic) if partition is None else [TopicPartition(topic, partition)]
    consumer = cluster.consumer(max_partition_fetch_bytes=MAX_FETCH_BYTES)
    await consumer.start()
    try:
        consumer.assign(sources)
        return await _read_assigned(consumer, take)
    finally:
        await consumer.stop()


async def _read_assigned(consumer: AIOKafkaConsumer, take: Callable[[ConsumerRecord], None]) -> int:
    count = 0
    ends = await consumer.end_offsets(consumer.assignment())
    for source, end in ends.items():
        while await consumer.position(source) < end:
            for at, records in (await consumer.getmany(timeout_ms=200, max_records=10_000)).items():
                for record in records:
                    if record.offset < ends[at]:
                        count += 1
                        take(record)
    return count


async def partitions_of(cluster: Cluster, topic: str) -> list[TopicPartition]:
    """The topic's partitions, ascending. Raises RuntimeError when there is no such topic.

    A consumer without subscription knows of no topic (aiokafka), so the cluster is asked.
    """
    admin = cluster.admin()
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if not described["partitions"]:
        raise RuntimeError(f"topic {topic} does not exist: create it with `driftline topics create`")
    return [TopicPartition(topic, number) for number in sorted(part["partition"] for part in described["partitions"])]


async def restore(cluster: Cluster, changelog: TopicPartition, store: Store) -> int:
    """Bring `store` from its position up to the end of `changelog` and return the records read.

    Reads committed records only. The caller has fenced every writer, so the end does not move.
    """
    started = time.monotonic()
    consumer = cluster.consumer(max_partition_fetch_bytes=MAX_FETCH_BYTES)
    await consumer.start()
    count = 0
    try:
        consumer.assign([changelog])
        end = (await consumer.end_offsets([changelog]))[changelog]
        consumer.seek(changelog, store.position)
        while await consumer.position(changelog) < end:
            for records in (await consumer.getmany(timeout_ms=200, max_records=10_000)).values():
                count += len(records)
                store.take({record.key: record.value for record in records}, records[-1].offset + 1)
        store.take({}, max(end, store.position))
    finally:
        await consumer.stop()
    seconds = round(time.monotonic() - started, 3)
    log.info("restored", topic=changelog.topic, partition=changelog.partition, records=count, seconds=seconds)
    return count
