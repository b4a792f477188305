"""The load of a chaos run: sends events at a rate, survives everything, and knows where each bad event lies in the log.

The producer is idempotent and tries again until the broker has acknowledged: the log then holds each event once, in
order. What users were last shown is read back from `recommendations`, as a client would. Knows nothing of what goes
wrong.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from ops.chaos.traffic import Event, Shown, Traffic
from streams.cluster import Cluster
from streams.names import Topics

Place = tuple[int, int]
"""Partition and offset of an event."""

NEVER_MS = 3_600_000
"""How long the producer tries: longer than any run, since an event whose fate is unknown could not be accounted for."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A bad event and where it lies."""

    place: Place
    event: Event


class Sender:
    """Sends `traffic` to the topic of events. An asynchronous context manager.

    `follow`: learn from `recommendations` what users are shown, so that they can act upon it.
    """

    def __init__(
        self, cluster: Cluster, topics: Topics, partitions: int, traffic: Traffic, rate: float, *, follow: bool = True
    ) -> None:
        self._topics = topics
        self._traffic = traffic
        self._rate = rate
        self._follow = follow
        self._producer = cluster.producer(enable_idempotence=True, request_timeout_ms=NEVER_MS, linger_ms=5)
        self._consumer = cluster.consumer(fetch_max_wait_ms=200)
        self._answers = [TopicPartition(topics.recommendations, number) for number in range(partitions)]
        self._shown: dict[str, Shown] = {}
        self._bad: deque[str] = deque()
        self._pending: set[asyncio.Future[None]] = set()
        self.poisons: list[Sent] = []
        self.someone: dict[int, str] = {}  # a user of each partition
        self.sent = self.acknowledged = self.slates = 0

    async def __aenter__(self) -> Sender:
        await self._producer.start()
        await self._consumer.start()
        self._consumer.assign(self._answers)
        return self

    async def __aexit__(self, *error: object) -> None:
        for future in self._pending:
            future.cancel()
        # Not `stop`, which would flush for ever where the broker is gone for good.
        await asyncio.wait({asyncio.create_task(self._stop())}, timeout=5)

    async def _stop(self) -> None:
        await self._consumer.stop()
        await self._producer.stop()

    async def run(self, seconds: float) -> None:
        """Send for so long; returns when everything is acknowledged. Raises what the broker refused an event with."""
        begun = time.monotonic()
        watching = asyncio.create_task(self._watch())
        try:
            while (now := time.monotonic()) < begun + seconds:
                while self._bad:
                    await self._send_bad(self._bad.popleft())
                if self.sent > (now - begun) * self._rate:
                    await asyncio.sleep(0.5 / self._rate)
                    continue
                await self._send(self._traffic.good(self._shown))
                await asyncio.sleep(0)
            while self._bad:  # the broker was away when their time came
                await self._send_bad(self._bad.popleft())
            await self._all_acknowledged()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def close_windows(self, seconds: float) -> None:
        """A last event in every partition, `seconds` of event time later: what is due by then is closed."""
        for event in self._traffic.last(list(self.someone.values()), seconds):
            await self._send(event)
        await self._all_acknowledged()

    def poison(self, kind: str) -> None:
        """Send a bad event of this kind next."""
        self._bad.append(kind)

    async def _send_bad(self, kind: str) -> None:
        event = self._traffic.bad(kind)
        if event is None:
            await self._send(self._traffic.good(self._shown))
            self._bad.append(kind)  # next time around
        else:
            await self._send(event)

    async def _send(self, event: Event) -> None:
        future = await self._producer.send(
            self._topics.events, event.value, event.key, headers=list(event.headers) or None
        )
        self.sent += 1
        waiting = asyncio.ensure_future(self._note(event, future))
        self._pending.add(waiting)
        waiting.add_done_callback(self._done)

    def _done(self, waiting: asyncio.Future[None]) -> None:
        if waiting.cancelled() or waiting.exception() is None:
            self._pending.discard(waiting)  # a failed one stays, for `_all_acknowledged` to raise

    async def _note(self, event: Event, acknowledged: asyncio.Future[TopicPartition]) -> None:
        found = await acknowledged
        self.acknowledged += 1
        if event.poison:
            self.poisons.append(Sent((found.partition, found.offset), event))
        else:
            self.someone.setdefault(found.partition, event.key.decode())

    async def _all_acknowledged(self) -> None:
        await self._producer.flush()
        await asyncio.gather(*self._pending)

    async def _watch(self) -> None:
        """Follow what is shown to whom."""
        while self._follow:
            try:
                batches = await self._consumer.getmany(timeout_ms=200, max_records=500)
            except KafkaError:
                await asyncio.sleep(0.2)
                continue
            for records in batches.values():
                self._take(records)

    def _take(self, records: Sequence[object]) -> None:
        for record in records:
            value: bytes | None = record.value  # type: ignore[attr-defined]
            if value is None:
                self._shown.pop(record.key.decode(), None)  # type: ignore[attr-defined]
                continue
            slate = json.loads(value)
            self.slates += 1
            self._shown[slate["user"]] = Shown(slate["slate"], slate["items"])
