"""Reading a compacted partition back into a dict: what a worker does before it may go on.

Knows compaction and `read_committed`; knows nothing about what keys and values mean.
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

log = structlog.get_logger(__name__)


async def restore(bootstrap_servers: str, partition: TopicPartition, into: MutableMapping[bytes, bytes]) -> int:
    """Read `partition` from its start to its end into `into` (null values delete) and return the records read.

    Reads committed records only. The caller has fenced every writer, so the end does not move.
    """
    started = time.monotonic()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()
    try:
        consumer.assign([partition])
        count = 0
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            for record in (await consumer.getmany(partition, timeout_ms=200, max_records=10_000)).get(partition, ()):
                count += 1
                if record.value is None:
                    into.pop(record.key, None)
                else:
                    into[record.key] = record.value
    finally:
        await consumer.stop()
    seconds = time.monotonic() - started
    log.info("restored", topic=partition.topic, partition=partition.partition, records=count, seconds=round(seconds, 3))
    return count
