"""Reading a topic, or one partition of it, from its start to its end: what comes before going on.

Knows compaction and `read_committed`; knows nothing about what keys and values mean.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError

from streams.changelog import Changelog, describe
from streams.cluster import MAX_FETCH_BYTES, Cluster, running
from streams.store import Store, StoreDamaged

log = structlog.get_logger(__name__)

_CHUNK = 2_000  # records taken over at once: some MB
_FETCHED_BYTES = 2**20  # of each partition that is restored at the same time; a larger batch comes all the same
_CLOCK_STEP_SECONDS = 60.0  # clocks are corrected by less while a worker is down


class TopicMissing(RuntimeError):
    """There is no topic of that name."""


async def read_to_end(
    cluster: Cluster, topic: str, take: Callable[[ConsumerRecord], None], partition: int | None = None
) -> int:
    """Call `take` with every committed record that the topic (or one partition of it) holds now; return their number.

    In order within a partition; partitions come mixed. Raises TopicMissing when there is no such topic.
    """
    sources = await partitions_of(cluster, topic) if partition is None else [TopicPartition(topic, partition)]
    async with running(cluster.consumer(max_partition_fetch_bytes=MAX_FETCH_BYTES)) as consumer:
        consumer.assign(sources)
        return await _read_assigned(consumer, take)


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
    """The topic's partitions, ascending. Raises TopicMissing when there is no such topic.

    A consumer without subscription knows of no topic (aiokafka), so the cluster is asked.
    """
    async with running(cluster.admin()) as admin:
        (described,) = await admin.describe_topics([topic])
    if described["error_code"] == TopicAuthorizationFailedError.errno:
        raise TopicAuthorizationFailedError(topic)
    if not described["partitions"]:
        raise TopicMissing(f"topic {topic} does not exist: create it with `driftline topics create`")
    return [TopicPartition(topic, number) for number in sorted(part["partition"] for part in described["partitions"])]


async def restore(cluster: Cluster, source: TopicPartition, store: Store) -> int:
    """Bring `store` up to the end of the changelog `source` and return the records read.

    Reads committed records only: from the store's position on, or all of them where what the store has is not to be
    relied on. The caller has fenced every writer, so the end does not move. Raises `StoreDamaged`.
    """
    started = time.monotonic()
    consumer = cluster.consumer(max_partition_fetch_bytes=_FETCHED_BYTES)
    try:
        await consumer.start()
        consumer.assign([source])
        began = time.time()
        changelog = await describe(cluster, source, consumer, whose=store.origin is not None)
        reason = why_not_go_on(store, changelog, began)
        if reason is not None:
            log.warning(
                "rebuilding the local store from the changelog",
                topic=source.topic,
                partition=source.partition,
                reason=reason,
            )
        if reason is not None or store.position == 0:
            await asyncio.to_thread(store.clear, changelog.origin)
        since = store.position
        try:
            count = await _catch_up(consumer, source, changelog, store, began)
        except StoreDamaged as error:
            log.warning("rebuilding the local store from the changelog", partition=source.partition, reason=str(error))
            await asyncio.to_thread(store.clear, changelog.origin)
            count = await _catch_up(consumer, source, changelog, store, began)
    finally:
        await consumer.stop()
    log.info(
        "restored",
        topic=source.topic,
        partition=source.partition,
        position=since,
        records=count,
        seconds=round(time.monotonic() - started, 3),
    )
    return count


def why_not_go_on(store: Store, changelog: Changelog, now: float) -> str | None:
    """Why what the store has cannot be trusted to be the changelog's beginning; None where it can.

    Half of what a tombstone lives may have gone by when reading begins: the other half is left for reading.
    """
    if store.position == 0:
        return None
    if store.position > changelog.end:
        return f"it goes up to offset {store.position}, the changelog ends at {changelog.end}"
    if store.origin is None:
        return None
    if changelog.origin is None:
        return "the cluster has no topic ids (Kafka before 2.8) by which to know this changelog from another"
    if store.origin != changelog.origin:
        return f"it belongs to another changelog, {store.origin}, not to {changelog.origin}"
    age, limit = now - store.contact, min(store.keep_seconds, changelog.tombstone_seconds / 2)
    if age > limit:
        return (
            f"it was out of touch with the changelog for {age:.0f} s, more than {limit:.0f}: deletions may be missing"
        )
    if age < -_CLOCK_STEP_SECONDS:
        return f"the clock went back by {-age:.0f} s since it was last in touch with the changelog"
    return None


async def _catch_up(
    consumer: AIOKafkaConsumer, source: TopicPartition, changelog: Changelog, store: Store, began: float
) -> int:
    """Take over what is between the store's position and the end; only there has the store been in touch again."""
    count = 0
    contact = store.contact if store.position else began
    consumer.seek(source, max(store.position, changelog.first))
    while await consumer.position(source) < changelog.end:
        for records in (await consumer.getmany(timeout_ms=200, max_records=_CHUNK)).values():
            count += len(records)
            changes = {record.key: record.value for record in records}
            await asyncio.to_thread(store.take, changes, records[-1].offset + 1, contact)
    await asyncio.to_thread(store.take, {}, changelog.end, began)
    if store.origin is not None and (seconds := time.time() - contact) > changelog.tombstone_seconds:
        log.warning(
            "deletions may have been missed: raise delete.retention.ms, or delete the local state and start again",
            topic=source.topic,
            partition=source.partition,
            seconds_since_contact=round(seconds),
            tombstone_seconds=changelog.tombstone_seconds,
        )
    return count
