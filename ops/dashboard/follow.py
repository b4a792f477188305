"""Following the topics for the dashboard, in no group, within a budget: what comes faster than that is skipped.

Rates are measured by offsets, so they are right whatever is skipped. Knows nothing of what records mean.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from ops.dashboard.seen import Seen
from streams.blame import told
from streams.cluster import Cluster
from streams.names import Topics
from streams.restore import TopicMissing, partitions_of

log = structlog.get_logger(__name__)

WHOLE = ("items",)
"""Read from their start, since what matters may be old; at the budget's pace, and as much as is remembered."""

TAILS = {"events": 100, "recommendations": 100, "outcomes": 500, "events.dlq": 100, "items.dlq": 100, "models": 30}
"""Followed from so many offsets before their end, in each partition."""

FETCH_BYTES = 256 * 1024
"""Of a partition at a time: all that is held of it beside what is remembered. A larger record comes alone."""

FETCH_MS = 500
"""How long a fetch waits for so much: what comes is seen so much later, at most."""

RECORDS_A_TURN = 200
TURN_S = 0.4
FARTHEST = 2000
"""Offsets behind which a tail is left, and begun again near the end."""

RATE_S = 2.0
RETRY_S = 3.0


class Follower:
    """Keeps `seen` up to date until cancelled."""

    def __init__(self, cluster: Cluster, topics: Topics, seen: Seen) -> None:
        self._cluster, self._topics, self._seen = cluster, topics, seen
        self._plain = {topics.name(name): name for name in (*WHOLE, *TAILS)}
        self._ends: dict[TopicPartition, int] = {}
        self._rated_at = 0.0

    async def run(self) -> None:
        """Follow; where the cluster is away, say so on every topic and try again."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError, TimeoutError, TopicMissing) as error:
                problem = str(error) if isinstance(error, TopicMissing) else told(error)
                for name in self._plain.values():
                    self._seen.topic(name).problem = problem
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        places = [place for name in self._plain for place in await partitions_of(self._cluster, name)]
        # Without a least size the broker would answer at every commit of a worker, dozens of times a second.
        options = {"fetch_min_bytes": FETCH_BYTES, "fetch_max_wait_ms": FETCH_MS}
        consumer = self._cluster.consumer(max_partition_fetch_bytes=FETCH_BYTES, **options)
        try:
            await consumer.start()
            consumer.assign(places)
            await self._begin(consumer, places)
            while True:
                batches = await consumer.getmany(timeout_ms=200, max_records=RECORDS_A_TURN)
                for place, records in batches.items():
                    self._take(place, records)
                await self._keep_up(consumer, places)
                await asyncio.sleep(TURN_S)
        finally:
            await consumer.stop()

    async def _begin(self, consumer: Any, places: list[TopicPartition]) -> None:
        begins = await consumer.beginning_offsets(places)
        self._ends = await consumer.end_offsets(places)
        self._rated_at = time.monotonic()
        for place in places:
            tail = TAILS.get(self._plain[place.topic])
            consumer.seek(place, begins[place] if tail is None else max(begins[place], self._ends[place] - tail))
        for name in self._plain.values():
            self._seen.topic(name).problem = ""

    def _take(self, place: TopicPartition, records: list[Any]) -> None:
        name = self._plain[place.topic]
        topic = self._seen.topic(name)
        topic.records += len(records)
        for record in records:
            self._seen.take(name, record)

    async def _keep_up(self, consumer: Any, places: list[TopicPartition]) -> None:
        """Measure rates now and then, and leave out what cannot be followed."""
        now = time.monotonic()
        if now - self._rated_at < RATE_S:
            return
        ends = await asyncio.wait_for(consumer.end_offsets(places), 10)
        came: dict[str, int] = {}
        for place in places:
            name = self._plain[place.topic]
            came[name] = came.get(name, 0) + max(0, ends[place] - self._ends.get(place, ends[place]))
            if name in TAILS and ends[place] - await consumer.position(place) > FARTHEST:
                self._seen.topic(name).skipped += ends[place] - TAILS[name] - await consumer.position(place)
                consumer.seek(place, ends[place] - TAILS[name])
        self._rate(came, now - self._rated_at)
        self._ends, self._rated_at = ends, now

    def _rate(self, came: Mapping[str, int], seconds: float) -> None:
        wall = self._seen.clock()
        for name, count in came.items():
            topic = self._seen.topic(name)
            topic.at = wall
            topic.rates.append((wall, count / seconds))
