"""The live events: a process of its own that sends them at a set rate and times the slates that come back.

Latency is from just before an event is handed to the producer to the moment this subscriber (committed records only)
has the slate that covers it, by one clock. It stands apart from everything that reads along and counts, so that
nothing but the system under test is in the time. Run as `python -m ops.demo.traffic CONFIG`; it writes what it has
seen to a status file twice a second.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import TopicPartition

from ops.connection import connect
from ops.settings import load
from streams.cluster import Cluster

_STATUS_EVERY_S = 0.5
_RECENT = 1000

Place = tuple[int, int]


class TrafficConfig(msgspec.Struct, frozen=True):
    """`rate` in events a second; `patience_s`: how long to wait for a next slate once all is sent."""

    events: str
    recommendations: str
    file: str
    status: str
    rate: float
    patience_s: float = 30.0


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from event to slate."""

    p50: float
    p99: float


class TrafficStatus(msgspec.Struct, frozen=True):
    """What was sent and answered so far.

    `first_slate` is in seconds since the epoch; `recent` over the last 1,000 events, `overall` known when `done`.
    """

    sent: int = 0
    answered: int = 0
    first_slate: float | None = None
    events_per_s: float = 0.0
    overall: Latency | None = None
    recent: Latency | None = None
    done: bool = False


class Clock:
    """Matches slates to the events they cover, whichever of slate and acknowledgement comes first."""

    def __init__(self) -> None:
        self._sent: dict[Place, float] = {}
        self._early: dict[Place, float] = {}
        self.latencies: list[float] = []  # seconds
        self.answers: deque[float] = deque(maxlen=_RECENT)  # when, by the clock that `now` is of
        self.acknowledged = 0

    def sent(self, place: Place, at: float) -> None:
        """The event sent at `at` got its place in the log."""
        self.acknowledged += 1
        if place in self._early:
            self._answered(self._early.pop(place), at)
        else:
            self._sent[place] = at

    def slate(self, partition: int, covers: list[int], now: float) -> None:
        """A slate that covers these offsets is here. Answered again, an event is not timed again."""
        for offset in covers:
            if (sent := self._sent.pop((partition, offset), None)) is not None:
                self._answered(now, sent)
            else:
                self._early[partition, offset] = now

    def _answered(self, now: float, sent: float) -> None:
        self.latencies.append(now - sent)
        self.answers.append(now)


class Traffic:
    """Sends the events of a file and listens to the answers."""

    def __init__(self, cluster: Cluster, config: TrafficConfig) -> None:
        self._cluster = cluster
        self._config = config
        lines = Path(config.file).read_bytes().splitlines()
        self._events = [(msgspec.json.decode(line)["user"].encode(), line) for line in lines]
        self._clock = Clock()
        self._started = 0.0
        self._sent = 0
        self._first_slate: float | None = None
        self._failed: BaseException | None = None
        self._done = False

    async def run(self) -> None:
        """Send everything, wait for every answer or until patience is over, and leave the final status."""
        consumer = self._cluster.consumer(auto_offset_reset="latest")
        producer = self._cluster.producer()
        await consumer.start()
        await producer.start()
        try:
            await self._go_to_end(consumer, producer)
            gc.collect()
            gc.freeze()
            reading, reporting = asyncio.create_task(self._read(consumer)), asyncio.create_task(self._report())
            await self._send(producer)
            await self._wait_for_answers(reading)
            for task in (reading, reporting):
                task.cancel()
            await asyncio.gather(reading, reporting, return_exceptions=True)
        finally:
            await producer.stop()
            await consumer.stop()
        self._done = True
        self._write_status()

    async def _go_to_end(self, consumer: Any, producer: Any) -> None:
        topic = self._config.recommendations
        places = [TopicPartition(topic, number) for number in await producer.partitions_for(topic)]
        consumer.assign(places)
        await consumer.seek_to_end(*places)

    async def _send(self, producer: Any) -> None:
        self._started = time.perf_counter()
        for number, (user, value) in enumerate(self._events):
            # Also when late: the loop has slates to receive.
            await asyncio.sleep(max(0.0, self._started + number / self._config.rate - time.perf_counter()))
            now = time.perf_counter()
            acknowledged = await producer.send(self._config.events, key=user, value=value)
            acknowledged.add_done_callback(functools.partial(self._acknowledged, now))
            self._sent += 1
        await producer.flush()

    def _acknowledged(self, sent: float, future: Any) -> None:
        if (error := future.exception()) is not None:
            self._failed = error
            return
        place = future.result()
        self._clock.sent((place.partition, place.offset), sent)

    async def _read(self, consumer: Any) -> None:
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            now = time.perf_counter()
            for records in batches.values():
                for record in records:
                    if record.value is not None:
                        covers = msgspec.json.decode(record.value)["covers"]
                        self._first_slate = self._first_slate or time.time()
                        self._clock.slate(record.partition, covers, now)

    async def _wait_for_answers(self, reading: asyncio.Task[None]) -> None:
        progressed, answered = time.monotonic(), 0
        while len(self._clock.latencies) < self._sent:
            if len(self._clock.latencies) > answered:
                progressed, answered = time.monotonic(), len(self._clock.latencies)
            if time.monotonic() - progressed > self._config.patience_s:
                return
            if self._failed is not None:
                raise self._failed
            if reading.done():
                await reading
            await asyncio.sleep(0.05)

    async def _report(self) -> None:
        while True:
            self._write_status()
            await asyncio.sleep(_STATUS_EVERY_S)

    def _write_status(self) -> None:
        """Replace the status file in one step, so that it is always whole."""
        clock = self._clock
        seconds = clock.answers[-1] - self._started if clock.answers else 0.0
        status = TrafficStatus(
            sent=self._sent,
            answered=len(clock.latencies),
            first_slate=self._first_slate,
            events_per_s=len(clock.latencies) / seconds if seconds else 0.0,
            overall=_latency(clock.latencies) if self._done else None,  # it takes a while: not while timing
            recent=_latency(clock.latencies[-_RECENT:]),
            done=self._done,
        )
        aside = Path(f"{self._config.status}.new")
        aside.write_bytes(msgspec.json.encode(status))
        aside.rename(self._config.status)


def _latency(seconds: list[float]) -> Latency | None:
    if not seconds:
        return None
    p50, p99 = (np.percentile(seconds, (50, 99)) * 1000).tolist()
    return Latency(p50, p99)


def read_status(path: Path) -> TrafficStatus:
    """What the traffic process last wrote; zeros before that."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrafficStatus)
    except FileNotFoundError:
        return TrafficStatus()


if __name__ == "__main__":
    asyncio.run(Traffic(connect(load()), msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=TrafficConfig)).run())
