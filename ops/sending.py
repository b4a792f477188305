"""Sending many records to a topic: keyed, acknowledged by all replicas, at a set rate when asked.

Knows nothing of what the records say or where they come from.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from streams.cluster import Cluster, running


async def send_all(
    cluster: Cluster,
    topic: str,
    records: Iterable[tuple[bytes, bytes]],
    rate: float | None = None,
    on_sent: Callable[[int], None] = lambda count: None,
) -> int:
    """Send (key, value) records in order and return their number when the cluster has acknowledged each.

    `rate` is in records a second; None: as fast as it goes. `on_sent` hears how many were handed over so far. The
    partition follows from the key, the way all of Kafka's clients but librdkafka's compute it. Raises what the
    cluster refused a record with.
    """
    failed: list[BaseException] = []
    count, started = 0, time.monotonic()
    async with running(cluster.producer(enable_idempotence=True, linger_ms=5)) as producer:  # sends what is left
        for count, (key, value) in enumerate(records, start=1):
            if rate is not None:
                await asyncio.sleep(max(0.0, started + (count - 1) / rate - time.monotonic()))
            acknowledged = await producer.send(topic, key=key, value=value)
            acknowledged.add_done_callback(lambda future: failed.append(e) if (e := future.exception()) else None)
            if failed:
                break
            on_sent(count)
    if failed:
        raise failed[0]
    return count
