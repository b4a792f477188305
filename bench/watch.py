"""The stopwatch: an independent read_committed reader of a contender's answers, and the CPU time that was spent.

An event is answered when this reader has the record that names it. Knows nothing of how answers come about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

import msgspec
import psutil
from aiokafka import TopicPartition
from msgspec import Struct

from bench.load import Place
from streams.cluster import Cluster

Cpu = Callable[[], tuple[float, float]]
"""CPU seconds that the contender and the broker have used."""


class Answer(Struct):
    """What is read of an answer."""

    covers: list[int]


@dataclass(frozen=True)
class Lap:
    """How far it had come when some answers were read. `seconds` is time.monotonic."""

    events: int
    slates: int
    seconds: float
    contender_cpu: float
    broker_cpu: float


@dataclass
class Watch:
    """Reads `topic` until it is left; an asynchronous context manager."""

    cluster: Cluster
    topic: str
    partitions: int
    cpu: Cpu
    laps: list[Lap] = field(default_factory=list)
    events: int = 0
    slates: int = 0
    answered: dict[Place, float] = field(default_factory=dict)

    async def __aenter__(self) -> Watch:
        self._decode = msgspec.json.Decoder(Answer).decode
        self._moved = asyncio.Condition()
        self._consumer = self.cluster.consumer()
        await self._consumer.start()
        self._consumer.assign([TopicPartition(self.topic, number) for number in range(self.partitions)])
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._consumer.stop()

    async def reach(self, events: int, timeout_s: float = 120) -> Lap:
        """Wait until so many events are answered in all; returns how it stood when they were."""
        async with asyncio.timeout(timeout_s), self._moved:
            await self._moved.wait_for(lambda: self._reading.done() or self.events >= events)
        if self._reading.done():
            self._reading.result()
        return next(lap for lap in self.laps if lap.events >= events)

    async def transactions(self) -> int:
        """How many the topic holds, when all of it was read: each leaves a marker that takes an offset."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        return int(sum(ends.values())) - self.slates

    async def transactions_read(self) -> int:
        """How many of those it has read, within one of each partition."""
        positions = [await self._consumer.position(source) for source in self._consumer.assignment()]
        return int(sum(positions)) - self.slates

    async def _read(self) -> None:
        try:
            while True:
                batches = await self._consumer.getmany(timeout_ms=100)
                now = time.monotonic()
                for source, records in batches.items():
                    for record in records:
                        self._take(source.partition, self._decode(record.value).covers, now)
                if batches:
                    self.laps.append(Lap(self.events, self.slates, now, *self.cpu()))
                    await self._tell()
        finally:
            await self._tell()

    def _take(self, partition: int, offsets: list[int], now: float) -> None:
        self.slates += 1
        self.events += len(offsets)
        for offset in offsets:
            self.answered[partition, offset] = now

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()


def cpu_of(contender: int, broker: int) -> Cpu:
    """The CPU seconds of two processes, by pid."""
    processes = psutil.Process(contender), psutil.Process(broker)

    def used() -> tuple[float, float]:
        spent = [process.cpu_times() for process in processes]
        return spent[0].user + spent[0].system, spent[1].user + spent[1].system

    return used


def latencies_ms(sent: Mapping[Place, float], answered: Mapping[Place, float]) -> list[float]:
    """From sending an event to reading its answer, ascending. Raises KeyError when one was not answered."""
    return sorted(1000 * (answered[place] - moment) for place, moment in sent.items())
