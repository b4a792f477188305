"""Dead letters as the engine writes them, without an engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from streams.cluster import Cluster
from streams.deadletters import dead_letter_headers, fit

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Bad:
    """An original and why it failed; `source`: where it lay."""

    value: bytes | None
    key: bytes | None = b"u"
    reason: str = "unknown_action"
    message: str = "action is 'lick'; expected one of view, rate"
    headers: Headers = ()
    source: int = 0
    offset: int = 0
    time: int | None = None  # of the letter; None: now


async def post(cluster: Cluster, topic: str, source_topic: str, letters: Iterable[Bad]) -> None:
    """Write letters, each to the partition of its source."""
    producer = cluster.producer(max_request_size=8 * 2**20)
    await producer.start()
    try:
        for bad in letters:
            place = (source_topic, bad.source, bad.offset, 1_700_000_000_000)
            headers = dead_letter_headers(bad.headers, bad.reason, bad.message, *place)  # type: ignore[arg-type]
            key, value, headers = fit(bad.key, bad.value, headers)
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=bad.time, headers=headers)
            await (await producer.send_batch(batch, topic, partition=bad.source))
    finally:
        await producer.stop()
